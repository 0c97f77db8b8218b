"""Grids that are anisotropic, oblique and flipped, and what lies on them in closed form."""

import numpy as np
from scipy.spatial.transform import Rotation

from vol3d.volume import Grid, Volume

SLOPE, AT_ZERO = np.array([0.7, -0.4, 0.3]), 60.0


def oblique(shape: tuple, spacing: tuple, degrees: tuple, turn: str = "RAS") -> Grid:
    """A grid around the origin; its axes are turned by degrees, and then permuted or flipped."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() * spacing
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Grid(shape, affine).turned(turn)


FIXED = oblique((24, 30, 20), (2.0, 1.5, 3.0), (12, -20, 35), "LPS")
MOVING = oblique((40, 44, 36), (1.8, 2.5, 2.2), (-8, 15, -25), "PIR")
WIDE = oblique((20, 22, 18), (6.0, 5.0, 7.0), (5, 10, 20), "SLA")
"""Of a field that covers both."""


def affine_matrix() -> np.ndarray:
    """Turns, stretches, shears and moves."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (6, -4, 9), degrees=True).as_matrix()
    matrix[:3, :3] @= [[1.1, 0.05, 0], [0, 0.95, 0.02], [0, 0, 1.05]]
    matrix[:3, 3] = 3, -2, 4
    return matrix


def points_of(grid: Grid) -> np.ndarray:
    """[3, X, Y, Z] mm, RAS+."""
    index = np.indices(grid.shape).reshape(3, -1)
    points = grid.affine[:3, :3] @ index + grid.affine[:3, 3:]
    return points.reshape(3, *grid.shape)


def waves(grid: Grid, mm: float = 4.0) -> np.ndarray:
    """A smooth displacement [3, X, Y, Z] that fades out at 50 mm."""
    x, y, z = points_of(grid)
    fade = np.exp(-(x**2 + y**2 + z**2) / 1000)
    u = np.stack([np.sin(y / 12), np.cos(z / 15 + 1), np.sin((x + y) / 14)])
    return (mm * fade * u).astype(np.float32)


def slope(grid: Grid) -> Volume:
    """What linear interpolation gets right everywhere: values that change evenly, mm by mm."""
    return Volume(
        (AT_ZERO + np.tensordot(SLOPE, points_of(grid), 1)).astype(np.float32), grid.affine
    )


def blobs(grid: Grid, seed: int = 0) -> Volume:
    """An image with edges, from 0 to 1."""
    rng = np.random.default_rng(seed)
    x = points_of(grid)
    data = sum(
        rng.uniform(0.3, 1)
        * (((x - rng.uniform(-15, 15, 3)[:, None, None, None]) ** 2).sum(0) < r * r)
        for r in rng.uniform(8, 18, 6)
    )
    return Volume((data / data.max()).astype(np.float32), grid.affine)
