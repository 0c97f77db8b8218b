"""napari shows arrays Z, Y, X, and so is its world: here, and only here, the order is turned.

Everywhere else voxels are [X, Y, Z], and points x, y, z in mm, RAS+. Turning twice changes nothing, so
the same functions lead to napari and back.
"""

import numpy as np

SIDES_UP = ("towards", "up", "right")
"""Where napari's Z, Y, X go on the screen: anterior (of other planes superior) is up, right is right."""
PLANES = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
"""The order of napari's axes with which 2-D shows a plane: sliced, vertical, horizontal."""


def turned(points: np.ndarray) -> np.ndarray:
    """Points or vectors [..., 3]: x, y, z <-> z, y, x."""
    return np.asarray(points)[..., ::-1]


def turned_array(data: np.ndarray) -> np.ndarray:
    """Voxels [..., X, Y, Z] <-> [..., Z, Y, X]; nothing is copied."""
    return np.swapaxes(data, -1, -3)


def turned_affine(affine: np.ndarray) -> np.ndarray:
    """[4, 4], voxel index -> mm, with the axes of both in reverse order."""
    order = [2, 1, 0, 3]
    return np.asarray(affine)[np.ix_(order, order)]
