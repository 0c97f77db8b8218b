"""A scene whose landmarks are known: ten places in an image, a mask, a probability and a field."""

import numpy as np

from vol3d.volume import Grid, Volume

SHAPE = (36, 42, 30)
LANDMARKS = np.array(
    [
        *([6, 7, 6], [29, 8, 7], [7, 34, 8], [28, 33, 6], [8, 8, 23]),
        *([29, 9, 22], [7, 33, 23], [27, 34, 22], [18, 20, 15], [14, 26, 11]),
    ]
)
"""Voxels X, Y, Z, in the middle of a cube that is bright, apart from each other."""
HALF = 2
MIDDLE = np.array([10.0, -20.0, 5.0])
"""Of all grids here, mm."""


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """About the axes, in degrees."""
    a, b, c = np.deg2rad([x, y, z])
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rz @ ry @ rx


def grid(matrix: np.ndarray, spacing: tuple[float, float, float]) -> Grid:
    """A grid whose middle lies at `MIDDLE`."""
    affine = np.eye(4)
    affine[:3, :3] = matrix * np.array(spacing)
    affine[:3, 3] = MIDDLE - affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return Grid(SHAPE, affine)


GRIDS = {
    "plain": grid(np.eye(3), (2, 2, 2)),
    "turned and flipped": grid(np.eye(3)[:, [2, 0, 1]] * [1, -1, 1], (1.5, 2, 2.5)),
    "oblique": grid(rotation(11, -17, 23), (2, 2, 2)),
    "oblique, flipped, thick": grid(rotation(-9, 14, 8) @ np.diag([-1, 1, 1]), (1.6, 1.6, 2.4)),
}


def places(grid: Grid) -> np.ndarray:
    """[10, 3] the landmarks in mm."""
    return LANDMARKS @ grid.affine[:3, :3].T + grid.origin


def cubes(grid: Grid) -> np.ndarray:
    """[X, Y, Z] the number of the landmark, 1 to 10, in the cube around it; 0 elsewhere."""
    labels = np.zeros(grid.shape, np.uint8)
    for i, at in enumerate(LANDMARKS, start=1):
        labels[tuple(slice(a - HALF, a + HALF + 1) for a in at)] = i
    return labels


def image(grid: Grid) -> Volume:
    """Dark grey, and bright in the cubes."""
    return Volume((40 + 60.0 * (cubes(grid) > 0)).astype(np.float32), grid.affine)


def aside(grid: Grid) -> tuple[Volume, np.ndarray]:
    """A bright box in a corner of much air, and where its middle lies, mm."""
    data = np.zeros(grid.shape, np.float32)
    data[4:13, 6:13, 2:9] = 100
    return Volume(data, grid.affine), (grid.affine @ [8, 9, 5, 1])[:3]


def field(grid: Grid) -> np.ndarray:
    """[3, X, Y, Z] mm: 0.4 mm to the right, the front and up in the cubes, and none elsewhere."""
    return np.broadcast_to(0.4 * (cubes(grid) > 0), (3, *grid.shape)).astype(np.float32)
