"""Scans as networks see them: RAS+, on one grid, intensities in [0, 1]."""

import hashlib
import re

import numpy as np

from vol3d.data.scan import Scan, kind_of
from vol3d.errors import DataError
from vol3d.files import sha256
from vol3d.ranks import launched
from vol3d.volume import Grid, Volume

HEADROOM = 1.2
"""1 is this many times the 99.5th percentile of the brain, so that bright vessels are not clipped."""


class Images:
    """The scans of a source, read on demand and kept in memory up to `cache_gb`.

    `grid` is the finest where there are several.

    Args:
        source: a config of the menu in `data/datasets`.
        with_labels: also read the label maps; only scans that have one are kept.
        cache_gb: how much memory the voxels may take, over all processes on this machine, before
            files are read again each time.

    Raises:
        DataError: a scan that cannot be read, or one that lies on another grid than the first.
    """

    def __init__(self, source, *, with_labels: bool = False, cache_gb: float = 8.0) -> None:
        scans = [s for s in source.scans() if s.labels is not None or not with_labels]
        if not scans:
            raise DataError(f"{source.path}: no scan has a label map, which this task learns from")
        self.source = source
        self.train = [s for s in scans if s.split == "train"]
        self.val = [s for s in scans if s.split == "val"]
        if not self.train:
            raise DataError(
                f"{source.path}: none of the {len(scans)} scans is in the training split"
            )
        self.with_labels = with_labels
        self.cache_bytes = cache_gb * 1e9 / launched().local_world
        self.cache: dict[str, dict[str, np.ndarray]] = {}
        self.digests: dict[str, str] = {}
        self.targets: dict[str, Grid] = source.target_grids()
        own = None if self.targets else Volume.read(self.train[0].image).reorient("RAS").grid
        self.grid: Grid = own or next(iter(self.targets.values()))

    def read(self, scan: Scan) -> dict[str, np.ndarray]:
        """`x` [1, X, Y, Z] float32 in [0, 1], and `labels` [1, X, Y, Z] int32 where asked for."""
        if scan.name in self.cache:
            return self.cache[scan.name]
        item = {
            "x": normalise(self.on_grid(scan, within_mask(scan, Volume.read(scan.image))).data)[
                None
            ]
        }
        if not item["x"].any():
            raise DataError(
                f"{scan.image}: has no voxel above 0 on a grid of {self.grid_of(scan)}; is the scan "
                f"where the grid is, in MNI space?"
            )
        if self.with_labels:
            labels = self.on_grid(scan, Volume.read(scan.labels), nearest=True).data
            item["labels"] = np.rint(labels).astype(np.int32)[None]
        if sum(a.nbytes for a in item.values()) * (len(self.cache) + 1) <= self.cache_bytes:
            self.cache[scan.name] = item
        return item

    def grid_of(self, scan: Scan) -> Grid:
        """The grid that a scan is read on."""
        return self.targets[scan.res] if scan.res else self.grid

    def on_grid(self, scan: Scan, volume: Volume, *, nearest: bool = False) -> Volume:
        """Reorient to RAS+; resample where the source asks for a grid, else insist on the common one."""
        volume = volume.reorient("RAS")
        grid = self.grid_of(scan)
        if self.targets and not volume.grid.matches(grid):
            return volume.resample(grid, nearest=nearest)
        if not volume.grid.matches(grid, tolerance_mm=0.01):
            raise DataError(
                f"{scan.name}: lies on a grid of {volume.grid}, and {self.train[0].name} on {self.grid} "
                f"(or elsewhere in the world); all scans must share one: name it, e.g. data.grid=2mm"
            )
        return volume

    def entities(self) -> dict[str, str]:
        """BIDS's `space` and `res` where all training images say the same in their names."""
        found = {}
        for key in ("space", "res"):
            said = {
                m.group(1) if (m := re.search(rf"_{key}-([A-Za-z0-9]+)", s.image.name)) else None
                for s in self.train
            }
            if len(said) == 1 and None not in said and not self.targets:
                found[key] = said.pop()
        return found

    def digest(self, scan: Scan) -> str:
        """The SHA-256 of a scan's file, or of it and its mask; each is read for it once."""
        if scan.visit not in self.digests:
            both = "".join(map(sha256, filter(None, (scan.image, scan.mask))))
            one = hashlib.sha256(bytes.fromhex(both)).hexdigest()
            self.digests[scan.visit] = one if scan.mask else both
        return self.digests[scan.visit]

    def fingerprint(self) -> dict:
        """What the data are, without any person's row: counts, grid, and a digest of the files."""
        digest = hashlib.sha256()
        for visit, scan in {s.visit: s for s in self.train + self.val}.items():
            digest.update(visit.encode() + bytes.fromhex(self.digest(scan)))
        people = {
            split: len({s.subject for s in scans})
            for split, scans in (("train", self.train), ("val", self.val))
        }
        return {
            "scans": {"train": len(self.train), "val": len(self.val)},
            "people": people,
            "shape": list(self.grid.shape),
            "affine": self.grid.affine.tolist(),
            "spacing_mm": list(self.grid.spacing),
            "grids": [grid_as_dict(g) for g in self.targets.values() or [self.grid]],
            "space_code": Volume.read(self.train[0].image).space_code,
            "entities": self.entities(),
            "kind": kind_of(s.image for s in self.train),
            "intensity": f"divided by {HEADROOM} x the 99.5th percentile of the voxels above 0",
            "sha256": digest.hexdigest(),
        }


def within_mask(scan: Scan, volume: Volume) -> Volume:
    """The scan with 0 outside its brain mask, where it has one.

    Raises:
        DataError: the mask lies elsewhere.
    """
    if scan.mask is None:
        return volume
    volume, mask = volume.reorient("RAS"), Volume.read(scan.mask).reorient("RAS")
    if not mask.grid.matches(volume.grid, tolerance_mm=0.01):
        raise DataError(
            f"{scan.mask}: lies on a grid of {mask.grid}, the scan on {volume.grid} (or elsewhere in the "
            f"world); resample it onto the scan, or leave it out with data.mask_entities=null"
        )
    return Volume(volume.data * (mask.data > 0), volume.affine, volume.space_code)


def grid_as_dict(grid: Grid) -> dict:
    """A grid as plain values."""
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def grids_of(fingerprint: dict) -> list[Grid]:
    """The grids that a fingerprint names, the finest first."""
    return [
        Grid(tuple(g["shape"]), np.array(g["affine"]))
        for g in fingerprint.get("grids", [fingerprint])
    ]


def normalise(data: np.ndarray) -> np.ndarray:
    """Intensities in [0, 1]: divided by 1.2 times the 99.5th percentile of the voxels above 0."""
    x = data.astype(np.float32)
    brain = x[x > 0]
    if brain.size == 0:
        return np.zeros_like(x)
    return np.clip(x / (HEADROOM * np.percentile(brain, 99.5)), 0, 1).astype(np.float32)
