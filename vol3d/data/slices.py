"""Flat pictures of volumes, laid out as a reader expects: front up, the person's left on the left."""

import numpy as np


def three_slices(x: np.ndarray, at: tuple[int, int, int] | None = None) -> list[np.ndarray]:
    """Axial, coronal and sagittal slices of x [X, Y, Z] in RAS+, as rows from top to bottom.

    Axial: anterior up, left on the left (neurological convention). Coronal: superior up, left on
    the left. Sagittal: superior up, posterior on the left.
    """
    i, j, k = at or tuple(n // 2 for n in x.shape)
    return [x[:, :, k].T[::-1], x[:, j, :].T[::-1], x[i, :, :].T[::-1]]


def montage(volumes: list[np.ndarray]) -> np.ndarray:
    """One row of pictures [rows, columns]: the three planes of each volume [X, Y, Z], side by side."""
    tiles = [p for x in volumes for p in three_slices(x)]
    height = max(t.shape[0] for t in tiles)
    return np.hstack([np.pad(t, ((0, height - t.shape[0]), (0, 0))) for t in tiles]).astype(
        np.float32
    )
