"""Data of a given size with nothing in it: what a rehearsal of a training sees (`vol3d plan`)."""

from pathlib import Path

import numpy as np

from vol3d.data.dataset import Dataset
from vol3d.data.visit import Visit
from vol3d.io.header import read_header
from vol3d.volume import Grid

PEOPLE = 4
"""They differ in their covariates, and fill a batch of validation."""


def fake_scans(covariates: dict[str, str]) -> list[Visit]:
    """People who differ in their covariates, which are numbers or categories by name."""
    values = {"number": (0.0, 1.0), "category": ("a", "b")}
    return [
        Visit(
            f"{i}",
            None,
            {"T1w": Path()},
            {n: values[k][i % 2] for n, k in covariates.items()},
            "train",
        )
        for i in range(PEOPLE)
    ]


class FakeImages:
    """Stands in for `Images`: scans of one shape, blank."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.grid = Grid(shape, np.eye(4))
        self.train = self.val = fake_scans({})

    def grid_of(self, scan: Visit) -> Grid:
        """The same for all."""
        return self.grid

    def image(self, scan: Visit) -> np.ndarray:
        """[1, X, Y, Z]."""
        return np.zeros((1, *self.grid.shape), np.float32)

    def labels(self, scan: Visit) -> np.ndarray:
        """[1, X, Y, Z]."""
        return np.zeros((1, *self.grid.shape), np.int32)


class FakeLatents:
    """Stands in for `LatentImages`: latents of one shape [C, x, y, z], blank.

    Args:
        shape: of the latent.
        covariates: what is known of people: number or category, by name.
    """

    def __init__(self, shape: tuple[int, int, int, int], covariates: dict[str, str]) -> None:
        self.shape, self.z_channels = shape, shape[0]
        self.train = self.val = fake_scans(covariates)

    def read(self, scan: Visit) -> dict[str, np.ndarray]:
        """`mean` and `logvar`."""
        return {
            "mean": np.zeros(self.shape, np.float32),
            "logvar": np.zeros(self.shape, np.float32),
        }


def largest_shape(data: Dataset) -> tuple[int, int, int]:
    """The shape of the largest scans: that of the named grid, or what the first header says.

    Raises:
        ConfigError: no grid is named, and there is no data set.
        DataError: the header of the first scan cannot be read.
    """
    if data.grid:
        return next(iter(data.target_grids().values())).shape
    scan = data.chosen()[0]
    header = read_header(scan.image, scan.form)
    return Grid(header.shape, header.affine).turned("RAS").shape
