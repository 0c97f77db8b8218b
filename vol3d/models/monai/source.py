"""What is to be imported: a file, or the files of a folder, each with what its folder says of it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vol3d.errors import ConfigError, DataError
from vol3d.models.monai.architecture import (
    KLHints,
    Read,
    UNetHints,
    channels_of,
    kind_of,
    read_autoencoder,
    read_unet,
)
from vol3d.models.monai.weights import Weights, read_weights
from vol3d.models.monai.zoo import Zoo, hints_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """A network that was found.

    Attributes:
        kind: autoencoder or unet.
        hinted: what the JSON says that the weights do not.
        source: that JSON; None without.
        scheduler: what it says of the noise.
    """

    kind: str
    weights: Weights
    net: Read
    hinted: dict[str, Any]
    source: Path | None
    scheduler: dict[str, Any]

    def tell(self) -> None:
        """Say where each setting comes from."""
        millions = sum(v.numel() for v in self.net.state.values()) / 1e6
        log.info("%s: MONAI's %s, %.1f M parameters", self.weights.path, self.net.what, millions)
        log.info("  read off the weights: %s", listed(self.net.derived))
        if self.hinted:
            log.info("  said by %s: %s", self.source, listed(self.hinted))
        if self.net.assumed:
            group = "kl" if self.kind == "autoencoder" else "unet"
            log.warning(
                "  assumed, as nothing says it: %s (set with %s.NAME=...)",
                *(listed(self.net.assumed), group),
            )


class Reader:
    """Reads files with the same hints.

    Args:
        kl: hints for an autoencoder, above the folder's.
        unet: hints for a U-Net, likewise.
    """

    def __init__(self, zoo: Zoo | None, kl: KLHints, unet: UNetHints, key: str | None) -> None:
        self.zoo, self.key = zoo, key
        self.hints = {"autoencoder": kl, "unet": unet}

    def read(self, path: Path) -> Found:
        """The network in a file; a DataError where it is none of ours, a ConfigError for wrong hints."""
        weights, zoo = read_weights(path, self.key), self.zoo
        kind = kind_of(weights.state)
        if kind is None:
            raise DataError(
                f"{path}: is none of AutoencoderKL, AutoencoderKlMaisi and DiffusionModelUNet; its "
                f"first weight is {next(iter(weights.state))}"
            )
        said = zoo.said_of(kind, channels_of(weights.state)) if zoo else {}
        hinted = hints_of(kind, said)
        asked = {k: v for k, v in self.hints[kind].dump().items() if v is not None}
        hints = type(self.hints[kind]).parse({**hinted, **asked})
        net = (read_autoencoder if kind == "autoencoder" else read_unet)(
            weights.state, hints, str(path)
        )
        channels = net.ports["in_channels"]
        if kind == "autoencoder" and channels != 1:
            raise DataError(f"{path}: is of images of {channels} channels; vol3d's have one")
        source = zoo.config if zoo else None
        return Found(kind, weights, net, hinted, source, zoo.said_of("scheduler") if zoo else {})

    def by_kind(self, path: Path) -> dict[str, Found]:
        """The network in a file, under its kind."""
        found = self.read(path)
        return {found.kind: found}

    def folder(self) -> dict[str, Found]:
        """Those of the folder, by kind; what is none of ours is left out, and the log says so."""
        found: dict[str, Found] = {}
        for path in self.zoo.weights():
            try:
                one = self.read(path)
            except DataError as error:
                log.warning("left out: %s", error)
                continue
            if one.kind in found:
                raise ConfigError(
                    f"{self.zoo.folder}: holds several of a kind, {found[one.kind].weights.path.name} "
                    f"and {path.name}; give one file as SOURCE, e.g. {path}"
                )
            found[one.kind] = one
        if not found:
            raise DataError(f"{self.zoo.folder}: holds no network that vol3d reads")
        return found


def zoo_of(source: Path, config: Path | None) -> Zoo | None:
    """The folder of the zoo that a source is, or lies in; None where there is no JSON."""
    if source.is_dir():
        return Zoo(source, config)
    above = source.resolve().parent.parent
    if config is None and not (above / "configs" / "inference.json").is_file():
        return None
    return Zoo(above, config)


def listed(settings: dict[str, Any]) -> str:
    """Settings as one would type them."""
    return ", ".join(f"{k}={v}" for k, v in settings.items() if v is not None)
