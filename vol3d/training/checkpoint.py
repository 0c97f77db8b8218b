"""Checkpoints: everything that a run needs to go on exactly, written whole or not at all."""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vol3d.data.visit import Visit
from vol3d.errors import ConfigError, DataError, RunError
from vol3d.io.files import sha256
from vol3d.io.reading import inside, read_json

log = logging.getLogger(__name__)
SUMS = "checksums.json"


class Stored:
    """The tensors of a checkpoint by name, each read when it is asked for; or a part of them."""

    def __init__(self, file: Path, prefix: str = "") -> None:
        self.file, self.prefix = file, prefix
        self.tensors = safe_open(file, "pt")
        self.names = [n for n in self.tensors.keys() if n.startswith(prefix)]  # noqa: SIM118

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.names

    def __getitem__(self, name: str) -> Tensor:
        """A tensor on the CPU, which shares its memory with whoever else asks for it."""
        return self.tensors.get_tensor(self.prefix + name)

    def under(self, prefix: str) -> "Stored":
        """Those whose names begin with the prefix, called without it."""
        return Stored(self.file, self.prefix + prefix)

    @torch.no_grad()
    def fill(self, net: nn.Module) -> None:
        """Copy the tensors into a network; a RunError where they are of another."""
        mine = net.state_dict()
        if {self.prefix + name for name in mine} != set(self.names):
            raise RunError(f"{self.file}: {self.prefix} is of another network; name another run")
        for name, tensor in mine.items():
            tensor.copy_(self[name])


class Checkpoints:
    """The last `keep` checkpoints of a run: folders named by the number of images seen."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def write(self, nimg: int, tensors: dict[str, Tensor], state: dict) -> None:
        """Write one, make sure that it reached the disk, and remove the oldest beyond `keep`.

        Raises:
            RunError: the disk is full; the checkpoints before it are untouched.
        """
        target = self.folder / f"nimg-{nimg:010d}"
        part = self.folder / f".{target.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir(parents=True)
            save_file(
                {k: v.detach().cpu().contiguous() for k, v in tensors.items()},
                part / "tensors.safetensors",
            )
            (part / "state.json").write_text(json.dumps({"nimg": nimg, **state}, indent=2))
            sums = {p.name: sha256(p) for p in sorted(part.iterdir())}
            (part / SUMS).write_text(json.dumps(sums, indent=2))
            for file in part.iterdir():
                sync(file)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(part, target)
            sync(self.folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(part, ignore_errors=True)
            raise RunError(
                f"{target}: the checkpoint could not be written ({error}); "
                f"make room and run again to go on from the one before"
            ) from None
        for damaged in [p for p in self.all() if p.name > target.name]:  # or we had gone on from it
            shutil.rmtree(damaged)
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)

    def newest(self) -> Path | None:
        """The newest one that is whole; damaged ones are told and passed over; a RunError if all are."""
        found = self.all()
        for path in reversed(found):
            problem = damage(path)
            if problem is None:
                return path
            log.warning("%s: %s; falling back to the checkpoint before it", path, problem)
        if found:
            raise RunError(
                f"{self.folder}: all {len(found)} checkpoints are damaged; "
                f"remove the run folder to start anew"
            )
        return None

    def all(self) -> list[Path]:
        """The checkpoints on disk, oldest first."""
        return sorted(self.folder.glob("nimg-*"))


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        sums = read_json(path / SUMS)
        files = {name: inside(path, name, path / SUMS) for name in sums}
    except DataError:
        return "its checksums cannot be read"
    for name, file in files.items():
        if not file.is_file() or sha256(file) != sums[name]:
            return f"{name} is missing or damaged"
    return None


def digest(scans: list[Visit]) -> str:
    """What a run learns from: names, covariates and sizes of all files, as a hash."""
    told = []
    for s in scans:
        files = filter(None, [*s.images.values(), *s.labels.values(), s.mask])
        told.append([s.name, s.covariates, [path.stat().st_size for path in files]])
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def check_scans(run: Path, known: str | None, found: str) -> None:
    """Refuse, by a ConfigError, to go on with other scans than a checkpoint's, by their digests."""
    if known != found:
        raise ConfigError(
            f"{run}: the training scans, their label maps or covariates are others than when this run "
            f"began; bring them back, or name another folder with run=..."
        )


def sync(path: Path) -> None:
    """Ask the system to put a file or folder on the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
