"""Data of a given size with nothing in it: what an estimate of a training's cost sees (`vol3d plan`)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vol3d.data.dataset import Dataset
from vol3d.data.scan_checks import ras_grid
from vol3d.data.visit import MAIN_LABELS, Visit
from vol3d.io.header import read_header
from vol3d.volume import Grid

PEOPLE = 4
"""They differ in their covariates, and fill a batch of validation."""


def fake_scans(covariates: dict[str, str], images: Sequence[str] = ("T1w",)) -> list[Visit]:
    """People who differ in their covariates, which are numbers or categories by name."""
    values = {"number": (0.0, 1.0), "category": ("a", "b")}
    rows = [{n: values[k][i % 2] for n, k in covariates.items()} for i in range(PEOPLE)]
    files = dict.fromkeys(images, Path())
    return [Visit(f"{i}", None, files, row, "train") for i, row in enumerate(rows)]


class FakeImages:
    """Stands in for `Images`: scans of one shape, blank; covariates are number or category, by name."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        covariates: dict[str, str] | None = None,
        images: Sequence[str] = (),
        labels: Sequence[str] = (MAIN_LABELS,),
    ) -> None:
        self.path, self.main, self.grid = Path(), "T1w", Grid(shape, np.eye(4))
        scans = fake_scans(covariates or {}, ["T1w", *images])
        self.train = self.val = [replace(s, labels=dict.fromkeys(labels, Path())) for s in scans]

    def read(self, scan: Visit) -> dict[str, np.ndarray]:
        """Every image and label map of a visit."""
        maps = {name: self.labels(scan) for name in scan.labels}
        return {name: self.image(scan) for name in scan.images} | maps

    def grid_of(self, scan: Visit) -> Grid:
        """The same for all."""
        return self.grid

    def image(self, scan: Visit) -> np.ndarray:
        """[1, X, Y, Z]."""
        return np.zeros((1, *self.grid.shape), np.float32)

    def labels(self, scan: Visit, name: str = MAIN_LABELS) -> np.ndarray:
        """[1, X, Y, Z]."""
        return np.zeros((1, *self.grid.shape), np.int32)


class FakeLatents:
    """Stands in for `LatentImages`: latents of one shape [C, x, y, z], blank; see `FakeImages`."""

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        covariates: dict[str, str],
        images: Sequence[str] = (),
    ) -> None:
        self.path = Path()
        self.shape, self.z_channels, self.contrasts = shape, shape[0], ["T1w", *images]
        self.train = self.val = fake_scans(covariates)

    def read(self, scan: Visit) -> dict[str, np.ndarray]:
        """`mean`, `logvar`, and the latents of further contrasts."""
        names = ["mean", "logvar", *self.contrasts[1:]]
        return {name: np.zeros(self.shape, np.float32) for name in names}


def largest_shape(data: Dataset) -> tuple[int, int, int]:
    """The shape of the largest scans: that of the named grid, or what the first header says."""
    if data.target_grids():
        return next(iter(data.target_grids().values())).shape
    scan = data.chosen()[0]
    return ras_grid(read_header(scan.image, scan.form)).shape
