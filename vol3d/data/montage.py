"""Flat pictures of volumes, laid out as a reader expects: front up, the person's left on the left."""

import numpy as np


def three_slices(x: np.ndarray, at: tuple[int, int, int] | None = None) -> list[np.ndarray]:
    """Axial, coronal and sagittal slices of x [X, Y, Z] in RAS+, as rows from top to bottom.

    Axial: anterior up, left on the left (neurological convention). Coronal: superior up, left on
    the left. Sagittal: superior up, posterior on the left.
    """
    i, j, k = at or tuple(n // 2 for n in x.shape)
    return [x[:, :, k].T[::-1], x[:, j, :].T[::-1], x[i, :, :].T[::-1]]


def planes_shown(shape: tuple[int, ...]) -> list[int]:
    """Which of the three slices show something: all, or of a volume one voxel thick the one it is."""
    thin = [{2: 0, 1: 1, 0: 2}[axis] for axis, n in enumerate(shape) if n == 1]
    return thin[:1] or [0, 1, 2]


def montage(volumes: list[np.ndarray]) -> np.ndarray:
    """One row of pictures [rows, columns]: the slices of each volume [X, Y, Z], side by side."""
    tiles = [three_slices(x)[p] for x in volumes for p in planes_shown(x.shape)]
    height = max(t.shape[0] for t in tiles)
    tiles = [np.pad(t, ((0, height - t.shape[0]), (0, 0))) for t in tiles]
    return np.hstack(tiles).astype(np.float32)
