"""Open what vol3d has trained, of whichever kind."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import PlainValidator

from vol3d.api.arguments import ruled_by
from vol3d.api.autoencoder import Autoencoder
from vol3d.api.generator import Generator
from vol3d.api.registrar import Registrar
from vol3d.api.segmenter import Segmenter
from vol3d.bundle import Bundle
from vol3d.errors import ConfigError
from vol3d.io.text import kind_of
from vol3d.trained import TrainedAutoencoder, TrainedGenerator, open_registrar
from vol3d.trained.members import open_all
from vol3d.training.engine import device_of
from vol3d.verbs.generate import Generate
from vol3d.verbs.train import generator_at

Kind = Literal["generator", "segmenter", "registrar", "autoencoder"]
IN_BUNDLES = {
    "generator": "diffusion",
    "segmenter": "segmenter",
    "registrar": "registrar",
    "autoencoder": "autoencoder",
}
"""What a bundle calls each kind."""


def some_paths(given: Any) -> Any:
    """A path, or several; a ValueError of anything else."""
    several = [given] if isinstance(given, Path | str) else given
    if not isinstance(several, list | tuple) or not all(isinstance(p, Path | str) for p in several):
        raise ValueError(f"a path is due, or a list of them, got {kind_of(given)}")
    return given


@ruled_by(Generate, "sampler", "device")
def load(
    bundle: Annotated[Path | str | Sequence[Path | str], PlainValidator(some_paths)],
    kind: Kind | None = None,
    *,
    device: str = "auto",
    sampler: dict[str, Any] | None = None,
) -> Generator | Segmenter | Registrar | Autoencoder:
    """Open a trained model.

    Args:
        bundle: a bundle or a run; of a diffusion model that has not finished its training, its last
            checkpoint. `ready` names the models that come with vol3d. Several make one ensemble of
            segmenters. `none` is the registrar without a network, which only searches.
        kind: generator, segmenter, registrar or autoencoder. Without it what the bundle is: a
            diffusion model that draws label maps of an image is a segmenter. `ready` by itself is the
            generator.
        device: auto, cpu, cuda or cuda:1.
        sampler: changes to the sampler of a diffusion model: {"steps": 8, "guidance": 2}.

    Raises:
        ConfigError: there is none, it is of another kind, or a setting is off.
        DataError: a file of the bundle is damaged.
    """
    where, changes = device_of(device), sampler or {}
    is_one = isinstance(bundle, Path | str)
    if not is_one and (not bundle or kind not in (None, "segmenter")):
        raise ConfigError("bundle: several make one ensemble of segmenters, and nothing else")
    paths = [generator_at(Path(path)) for path in ([bundle] if is_one else bundle)]
    if not is_one or kind == "segmenter":
        return Segmenter(open_all(paths, where, changes), where)
    found = IN_BUNDLES[kind] if kind else str(Bundle(paths[0]).config.get("kind"))
    if found != "diffusion" and changes:
        raise ConfigError(f"sampler: {bundle} is no diffusion model, and has no sampler")
    if found == "autoencoder":
        return Autoencoder(TrainedAutoencoder(paths[0], where))
    if found == "registrar":
        return Registrar(open_registrar(paths[0], where))
    if found == "segmenter":
        return Segmenter(open_all(paths, where, changes), where)
    model = TrainedGenerator(paths[0], where, changes)
    if kind is None and model.codec.is_labels and model.channels:
        return Segmenter(open_all(paths, where, changes), where)
    return Generator(model)
