"""Scans as networks see them: RAS+, on one grid, intensities in [0, 1]."""

import hashlib
import logging
import re

import numpy as np

from vol3d.data.scan import Scan, kind_of
from vol3d.data.scan_checks import (
    PREPARE,
    SAME_MM,
    check_contrast,
    common_grid,
    doubts,
    tell_headers,
)
from vol3d.distributed.ranks import launched
from vol3d.errors import DataError
from vol3d.io.files import sha256
from vol3d.io.header import read_header
from vol3d.volume import Grid, Volume

HEADROOM = 1.2
"""1 is this many times the 99.5th percentile of the brain: above all tissue, and what is brighter,
vessels for the most part, is 1 to a network."""

log = logging.getLogger(__name__)
LOOKED_AT = 3
"""Training scans that are read at once, so that what is odd about all is told before the training."""
NAMED = ("space", "res")
"""Entities of the training images that samples take over."""


class Images:
    """The scans of a source, read on demand and kept in memory up to `cache_gb`.

    `grid` is the finest where there are several.

    Args:
        source: a config of the menu in `data/datasets`.
        with_labels: also read the label maps; only scans that have one are kept.
        cache_gb: how much memory the voxels may take, over all processes on this machine, before
            files are read again each time.

    Raises:
        DataError: a header that is not as it should be, or a scan that lies on another grid than most.
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
        self.seen: set[str] = set()  # scans that were looked at
        self.told: set[str] = set()  # reasons for doubt
        visits = list({s.visit: s for s in self.train + self.val}.values())
        headers = [read_header(s.image, s.form) for s in visits]
        tell_headers(headers)
        for scan in visits if with_labels else []:
            read_header(scan.labels, scan.form)
        self.space_code = headers[0].space_code
        self.grid: Grid = next(iter(self.targets.values()), None) or common_grid(visits, headers)
        for scan in self.train[:: max(1, len(self.train) // LOOKED_AT)][:LOOKED_AT]:
            self.read(scan)

    def read(self, scan: Scan) -> dict[str, np.ndarray]:
        """`x` [1, X, Y, Z] float32 in [0, 1], and `labels` [1, X, Y, Z] int32 where asked for."""
        if scan.name in self.cache:
            return self.cache[scan.name]
        volume = within_mask(scan, Volume.of(read_header(scan.image, scan.form)))
        is_new = scan.name not in self.seen
        if is_new:
            check_contrast(volume, scan.image)
        item = {"x": normalise(self.on_grid(scan, volume).data)[None]}
        if not item["x"].any():
            raise DataError(
                f"{scan.image}: has no voxel above 0 on a grid of {self.grid_of(scan)}; is the scan "
                f"where the grid is, in MNI space?"
            )
        if is_new:
            self.look_at(scan, volume)
        if self.with_labels:
            labels = Volume.of(read_header(scan.labels, scan.form))
            labels = self.on_grid(scan, labels, nearest=True).data
            item["labels"] = np.rint(labels).astype(np.int32)[None]
        if sum(a.nbytes for a in item.values()) * (len(self.cache) + 1) <= self.cache_bytes:
            self.cache[scan.name] = item
        return item

    def look_at(self, scan: Scan, volume: Volume) -> None:
        """Tell, once for each reason, of a scan that does not look like a stripped brain on its grid."""
        self.seen.add(scan.name)
        for kind, reason in doubts(volume, self.grid_of(scan)).items():
            if kind not in self.told:
                self.told.add(kind)
                log.warning("warning: %s: %s; %s (told once)", scan.image, reason, PREPARE)

    def grid_of(self, scan: Scan) -> Grid:
        """The grid that a scan is read on."""
        return self.targets[scan.res] if scan.res else self.grid

    def on_grid(self, scan: Scan, volume: Volume, *, nearest: bool = False) -> Volume:
        """Reorient to RAS+; resample where the source asks for a grid, else insist on the common one."""
        volume = volume.reorient("RAS")
        grid = self.grid_of(scan)
        if self.targets and not volume.grid.matches(grid):
            return volume.resample(grid, nearest=nearest)
        if not volume.grid.matches(grid, SAME_MM):
            raise DataError(
                f"{scan.labels}: lies on a grid of {volume.grid}, {volume.grid.apart(grid):.1f} mm off "
                f"that of the scans, {grid}; resample it onto the scan"
            )
        return volume

    def entities(self) -> dict[str, str]:
        """BIDS's `space` and `res` where all training images say the same in their names."""
        found = {}
        for key in NAMED:
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
            "space_code": self.space_code,
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
    volume, mask = (v.reorient("RAS") for v in (volume, Volume.read(scan.mask, scan.form)))
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


def check_fingerprint(told: dict) -> None:
    """What a fingerprint tells is there, as far as it is used, and fit for the names of files.

    Raises:
        ValueError: a word that is due in names of files is none; or whatever else indexing raises.
    """
    grids_of(told)
    int(told["space_code"])
    for key, word in told.get("entities", {}).items():
        if key not in NAMED or not re.fullmatch("[A-Za-z0-9]+", word):
            raise ValueError(f"entities: {key}={word!r} cannot stand in the name of a file")


def normalise(data: np.ndarray) -> np.ndarray:
    """Intensities in [0, 1]: divided by 1.2 times the 99.5th percentile of the voxels above 0."""
    x = data.astype(np.float32)
    brain = x[x > 0]
    if brain.size == 0:
        return np.zeros_like(x)
    return np.clip(x / (HEADROOM * np.percentile(brain, 99.5)), 0, 1).astype(np.float32)
