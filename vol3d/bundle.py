"""A bundle: a trained model as a folder that can be moved, checked and shared; nothing is pickled.

config.yaml          what to build
model.safetensors    the weights (averaged over training)
*.json               documents: fingerprint of the data, quality, covariate schema, versions
README.md            the model card
<name>/              bundles that it needs (a diffusion model carries its autoencoder)
checksums.json       SHA-256 of every file above

`ready` is the name of the models that come with vol3d (vol3d/ready, made by scripts/make_ready.sh).
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any, TypeVar

import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn

import vol3d
from vol3d.config import Config
from vol3d.data.images import check_fingerprint
from vol3d.errors import ConfigError, DataError
from vol3d.io.files import make_folder, sha256
from vol3d.io.reading import inside, read_json, read_yaml, understood

CHECKSUMS = "checksums.json"
READY = Path("ready")
"""The name of the models that come with vol3d."""
C = TypeVar("C", bound=Config)


class Bundle:
    """A bundle on disk, checked.

    Attributes:
        config: what to build, as plain values; `config["kind"]` says what it is.
        documents: the JSON files by name without ending.
        checksum: SHA-256 over all its files, which names this very model.
    """

    def __init__(self, path: Path | str, kind: str | None = None) -> None:
        """Open a bundle, or the one inside a run folder, and check every file.

        Raises:
            ConfigError: there is none, or it is of another kind than wanted.
            DataError: a file is missing or differs from its checksum.
        """
        self.path = find(Path(path), kind)
        self.checksum = verify(self.path)
        self.config = read_yaml(self.path / "config.yaml")
        found = self.config.get("kind")
        if kind is not None and found != kind:
            raise ConfigError(f"{path}: is a {found} bundle, a {kind} bundle is due")
        self.documents = {
            p.stem: read_json(p) for p in self.path.glob("*.json") if p.name != CHECKSUMS
        }

    def settings(self, cls: type[C]) -> C:
        """The config, checked.

        Raises:
            ConfigError: a setting is off, or needs a plug-in that is not there.
        """
        with understood(self.path / "config.yaml"):
            return cls.parse(self.config)

    def document(self, name: str) -> dict[str, Any]:
        """One of the documents; a DataError where there is none of that name."""
        if name not in self.documents:
            raise DataError(f"{self.path}: has no {name}.json; copy the bundle again")
        return self.documents[name]

    def fingerprint(self) -> dict[str, Any]:
        """What is known of the training data.

        Raises:
            DataError: what is used of it is missing or of another kind.
        """
        told = self.document("fingerprint")
        with understood(self.path / "fingerprint.json"):
            check_fingerprint(told)
        return told

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights by name."""
        with understood(file := self.path / "model.safetensors"):
            return load_file(file)

    def fill(self, net: nn.Module) -> None:
        """Give a network the weights."""
        with understood(self.path / "model.safetensors"):
            net.load_state_dict(self.weights())


def find(path: Path, kind: str | None = None) -> Path:
    """The bundle at a path, or in the run folder at that path; of `ready`, the one of that kind."""
    if path == READY:
        if path.exists():
            raise ConfigError(
                f"ready: names the models that come with vol3d, and a folder here as well; "
                f"give the folder's whole path ({path.absolute()}), or go elsewhere"
            )
        inside = "diffusion/autoencoder" if kind == "autoencoder" else kind or "diffusion"
        path = Path(vol3d.__file__).parent / "ready" / inside
    for folder in (path, path / "bundle"):
        if (folder / CHECKSUMS).is_file():
            return folder
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder; a bundle or a finished run is due")
    more = " (its training has not finished: run it again to go on)"
    is_under_way = (path / "checkpoints").is_dir()
    raise ConfigError(f"{path}: holds no bundle{more * is_under_way}")


def verify(path: Path) -> str:
    """Compare every file with its checksum, and return the bundle's own; what is off is a DataError."""
    sums = read_json(path / CHECKSUMS)
    read = {p.name for p in path.glob("*.json")} - {CHECKSUMS}
    for name in sorted({"config.yaml", "model.safetensors", *read} - set(sums)):
        raise DataError(f"{path}: {CHECKSUMS} does not vouch for {name}; copy the bundle again")
    for name, expected in sums.items():
        file = inside(path, name, path / CHECKSUMS)
        if not file.is_file():
            raise DataError(f"{path}: {name} is missing; copy the bundle again")
        if sha256(file) != expected:
            raise DataError(
                f"{path}: {name} is damaged or was changed (its checksum is off); "
                f"copy the bundle again"
            )
    return digest(sums)


def write_bundle(
    path: Path,
    *,
    config: dict[str, Any],
    weights: dict[str, torch.Tensor],
    documents: dict[str, Any],
    card: str,
    inside: dict[str, Path] | None = None,
) -> str:
    """Write a bundle, whole or not at all, and return its checksum.

    Args:
        path: the folder to make; one that is there is replaced.
        config: plain values, with `kind`.
        weights: tensors by name.
        documents: values for JSON files, by name without ending.
        card: the model card, Markdown.
        inside: bundles to copy into it, by the name of their folder.
    """
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    make_folder(part)
    (part / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    save_file(
        {k: v.detach().cpu().contiguous() for k, v in weights.items()}, part / "model.safetensors"
    )
    for name, value in {**documents, "versions": versions()}.items():
        (part / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")
    (part / "README.md").write_text(card)
    for name, bundle in (inside or {}).items():
        shutil.copytree(bundle, part / name)
    files = sorted(p for p in part.rglob("*") if p.is_file())
    sums = {p.relative_to(part).as_posix(): sha256(p) for p in files}
    (part / CHECKSUMS).write_text(json.dumps(sums, indent=2) + "\n")
    if path.exists():
        shutil.rmtree(path)
    os.replace(part, path)
    return digest(sums)


def digest(sums: dict[str, str]) -> str:
    """One checksum from those of the files."""
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """What made the model, for the record; of a library that is not there nothing."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"vol3d": vol3d.__version__, "python": platform.python_version()}
    for name in ("torch", "monai", "numpy", "nibabel", "SimpleITK"):
        with contextlib.suppress(PackageNotFoundError):  # a GPU lent for minutes may lack SimpleITK
            found[name] = version(name)
    return found
