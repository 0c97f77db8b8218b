"""Scans as networks see them: RAS+, on one grid, intensities in [0, 1]."""

import hashlib
import logging
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from vol3d.data.dataset import OWN
from vol3d.data.label_map import whole_labels
from vol3d.data.network_images import HEADROOM, as_seen, onto, within_mask
from vol3d.data.scan_checks import (
    SAME_MM,
    check_contrast,
    common_grid,
    doubts,
    is_stripped,
    own_grids,
    tell_headers,
)
from vol3d.data.splits import draw_people
from vol3d.data.tables import few
from vol3d.data.visit import MAIN_LABELS, Visit, kind_of
from vol3d.distributed.ranks import launched
from vol3d.errors import DataError
from vol3d.io.files import sha256
from vol3d.io.header import read_header
from vol3d.volume import Grid, Volume

log = logging.getLogger(__name__)
LOOKED_AT = 3
"""Training scans that are read at once, so that what is odd about all is told before the training."""
NAMED = ("space", "res")
"""Entities of the training images that samples take over."""


class Images:
    """The visits of a source, whose images are read on demand and kept in memory up to `cache_gb`.

    `grid` is the finest where there are several; where each has its own, that of the first.

    Args:
        source: a config of the menu in `data/datasets`.
        needs: contrasts and label maps without which a visit is left out; beside label maps alone, and if
            none are named, the source's main contrast.
        one_of: label maps of which a visit needs one.
        may: contrasts and label maps that are read as well where they are there; None: every contrast.
        each: learn from every image by itself, as if it were a visit.
        cache_gb: how much memory the voxels may take, over all processes on this machine, before
            files are read again each time.

    Raises:
        DataError: a header that is not as it should be, or a scan that lies on another grid than most.
    """

    def __init__(
        self,
        source,
        *,
        needs: Collection[str] = (),
        one_of: Collection[str] = (),
        may: Collection[str] | None = (),
        each: bool = False,
        cache_gb: float = 8.0,
    ) -> None:
        self.source, self.path = source, source.path
        visits = self.chosen(source.scans(), needs, one_of, may, each)
        self.train = [s for s in visits if s.split == "train"]
        self.val = [s for s in visits if s.split == "val"]
        if not self.train:
            raise DataError(
                f"{source.path}: none of the {len(visits)} scans is in the training split"
            )
        if source.people:
            people = draw_people([s.subject for s in self.train], source.people, source.people_seed)
            self.train = [s for s in self.train if s.subject in people]
            log.info("people=%d: learns from %s", source.people, few(sorted(people)))
        self.cache_bytes = cache_gb * 1e9 / launched().local_world
        self.cache: dict[str, dict[str, np.ndarray]] = {}
        self.digests: dict[Path, str] = {}
        self.targets: dict[str, Grid] = source.target_grids()
        self.seen: set[Path] = set()  # images that were checked
        self.told: set[str] = set()  # reasons for doubt
        self.are_stripped = True  # those that were checked
        # Of a visit that is read on several grids, one.
        alike = {(s.who, s.only): s for s in self.train + self.val}.values()
        each_image = [image for s in alike for image in s.each()]
        headers = [read_header(s.image, s.form) for s in each_image]
        tell_headers(headers)
        for visit in alike:
            for path in visit.labels.values():
                read_header(path, visit.form)
        self.space_code = headers[0].space_code
        self.own: dict[Path, Grid] = {}  # of each image, where each has its own
        if source.grid == OWN:
            self.own = own_grids(each_image, headers)
        grids = [*self.targets.values(), *self.own.values()]
        self.grid: Grid = grids[0] if grids else common_grid(each_image, headers)
        for scan in self.train[:: max(1, len(self.train) // LOOKED_AT)][:LOOKED_AT]:
            self.read(scan)

    def chosen(
        self,
        visits: list[Visit],
        needs: Collection[str],
        one_of: Collection[str],
        may: Collection[str] | None,
        each: bool,
    ) -> list[Visit]:
        """The visits that have what is needed, with what is asked for and nothing else.

        Raises:
            DataError: there is none.
        """
        maps = {name for v in visits for name in v.labels}
        named = [n for n in needs if n not in maps]
        self.main = named[0] if named else self.source.main_contrast(visits)
        needs = list(dict.fromkeys([self.main, *needs]))
        may = [c for v in visits for c in v.images] if may is None else [*may, *one_of]
        found = [
            replace(
                v,
                images={c: v.images[c] for c in [*needs, *may] if c in v.images},
                labels={n: v.labels[n] for n in [*needs, *may] if n in v.labels},
            )
            for v in visits
            if each
            or ({*v.images, *v.labels} >= {*needs} and (not one_of or {*v.labels} & {*one_of}))
        ]
        found = [one for v in found for one in v.each()] if each else found
        if not found:
            told = " and ".join([*needs, *([f"one of {', '.join(one_of)}"] if one_of else [])])
            raise DataError(f"{self.source.path}: no scan has {told}")
        return found

    def has_map(self, name: str) -> bool:
        """Whether some visit has a label map of that name."""
        return any(name in v.labels for v in self.train)

    def image(self, visit: Visit) -> np.ndarray:
        """The main image of a visit, [1, X, Y, Z] float32 in [0, 1]."""
        return self.read(visit)[visit.only or self.main]

    def labels(self, visit: Visit, name: str = MAIN_LABELS) -> np.ndarray:
        """A label map of a visit, [1, X, Y, Z] int32."""
        return self.read(visit)[name]

    def read(self, visit: Visit) -> dict[str, np.ndarray]:
        """Each image of a visit by name, [1, X, Y, Z] float32 in [0, 1], and each label map, int32."""
        if visit.name in self.cache:
            return self.cache[visit.name]
        item = {c: self.read_image(visit, path) for c, path in visit.images.items()}
        for name, path in visit.labels.items():
            labels = whole_labels(Volume.of(read_header(path, visit.form)), path)
            item[name] = self.on_grid(visit, labels, path, nearest=True).data[None]
        if sum(a.nbytes for a in item.values()) * (len(self.cache) + 1) <= self.cache_bytes:
            self.cache[visit.name] = item
        return item

    def read_image(self, visit: Visit, path: Path) -> np.ndarray:
        """One of its images."""
        volume = within_mask(visit, path, Volume.of(read_header(path, visit.form)))
        is_new = path not in self.seen
        if is_new:
            check_contrast(volume, path)
        x = as_seen(self.on_grid(visit, volume, path)).data[None]
        if not x.any():
            raise DataError(
                f"{path}: has no voxel above 0 on a grid of {self.grid_of(visit)}; is the scan "
                f"where the grid is, in MNI space?"
            )
        if is_new:
            self.check(visit, path, volume)
        return x

    def check(self, scan: Visit, path: Path, volume: Volume) -> None:
        """Tell, once for each reason, of an image that is not what networks take by its looks."""
        self.seen.add(path)
        self.are_stripped &= is_stripped(volume)
        grid = None if self.own else self.grid_of(scan)
        for kind, reason in doubts(volume, grid, stripped=not self.own).items():
            if kind not in self.told:
                self.told.add(kind)
                log.warning("warning: %s: %s (told once)", path, reason)

    def grid_of(self, scan: Visit) -> Grid:
        """The grid that a scan is read on."""
        return self.targets[scan.res] if scan.res else self.own.get(scan.image, self.grid)

    def on_grid(self, scan: Visit, volume: Volume, path: Path, *, nearest: bool = False) -> Volume:
        """Reorient to RAS+; resample where the source asks for a grid, else insist on the common one."""
        grid = self.grid_of(scan)
        try:
            volume = onto(volume, grid if self.targets else None, nearest=nearest)
        except DataError as error:  # which knows neither the file nor whose grid it is
            raise DataError(f"{path}: {error} The grids of data.grid lie in MNI space") from None
        if not volume.grid.matches(grid, SAME_MM):
            raise DataError(
                f"{path}: lies on a grid of {volume.grid}, {volume.grid.apart(grid):.1f} mm off "
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

    def digest(self, scan: Visit) -> str:
        """The SHA-256 of a visit's image, or of all its images and its mask; each is read for it once."""
        files = [*scan.images.values(), *filter(None, [scan.mask])]
        for path in files:
            if path not in self.digests:
                self.digests[path] = sha256(path)
        every = "".join(self.digests[path] for path in files)
        return every if len(files) == 1 else hashlib.sha256(bytes.fromhex(every)).hexdigest()

    def fingerprint(self) -> dict:
        """What the data are, without any person's row: counts, grid, and a digest of the files."""
        digest = hashlib.sha256()
        for (who, _), scan in {(s.who, s.only): s for s in self.train + self.val}.items():
            digest.update(who.encode() + bytes.fromhex(self.digest(scan)))
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
            "common_grid": not self.own,
            "space_code": self.space_code,
            "entities": self.entities(),
            "kind": kind_of(s.images[self.main] for s in self.train if self.main in s.images),
            "stripped": self.are_stripped,
            "contrasts": list(dict.fromkeys(c for s in self.train for c in s.images)),
            "intensity": f"divided by {HEADROOM} x the 99.5th percentile of the voxels above 0",
            "sha256": digest.hexdigest(),
        }


def grid_as_dict(grid: Grid) -> dict:
    """A grid as plain values."""
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def grids_of(fingerprint: dict) -> list[Grid]:
    """The grids that a fingerprint names, the finest first."""
    return [
        Grid(tuple(g["shape"]), np.array(g["affine"]))
        for g in fingerprint.get("grids", [fingerprint])
    ]


def has_common_grid(fingerprint: dict) -> bool:
    """Whether all scans lay on one grid, not each on its own."""
    return fingerprint.get("common_grid", True)


def check_fingerprint(told: dict) -> None:
    """What a fingerprint tells is there, as far as it is used, and fit for the names of files.

    Raises:
        ValueError: a word that is due in names of files is none; or whatever else indexing raises.
    """
    try:
        grids_of(told)
    except DataError as error:  # of a grid, which knows no file
        raise ValueError(str(error)) from None
    int(told["space_code"])
    for key, word in told.get("entities", {}).items():
        if key not in NAMED or not re.fullmatch("[A-Za-z0-9]+", word):
            raise ValueError(f"entities: {key}={word!r} cannot stand in the name of a file")
