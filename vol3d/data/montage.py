"""One row of flat pictures of volumes, for previews."""

import numpy as np

from vol3d.planes import planes_shown, three_slices


def montage(volumes: list[np.ndarray]) -> np.ndarray:
    """One row of pictures [rows, columns]: the slices of each volume [X, Y, Z], side by side."""
    tiles = [three_slices(x)[p] for x in volumes for p in planes_shown(x.shape)]
    height = max(t.shape[0] for t in tiles)
    tiles = [np.pad(t, ((0, height - t.shape[0]), (0, 0))) for t in tiles]
    return np.hstack(tiles).astype(np.float32)
