"""Displacement fields in mm: u [3, X, Y, Z] in world mm, RAS+, on a grid; x goes with x + u(x)."""

import numpy as np

from vol3d.volume import Grid


def to_voxels(u: np.ndarray, grid: Grid) -> np.ndarray:
    """From mm, RAS+, to voxels along the grid's axes, which may be oblique; float type kept."""
    return np.einsum("ij,j...->i...", np.linalg.inv(grid.affine[:3, :3]).astype(u.dtype), u)


def to_mm(u: np.ndarray, grid: Grid) -> np.ndarray:
    """From voxels along the grid's axes to mm, RAS+."""
    return np.einsum("ij,j...->i...", grid.affine[:3, :3].astype(u.dtype), u)


def jacobian(u: np.ndarray, grid: Grid) -> np.ndarray:
    """How many times larger x -> x + u(x) makes a volume, det J [X, Y, Z]; 0 or less: folded.

    Central differences, one-sided at the faces. In the coordinates of voxels and in those of the world
    the determinant is the same; what it misses, `vol3d.metrics.folding` finds.
    """
    J = np.stack([[along(ui, axis) for axis in range(3)] for ui in to_voxels(u, grid)])
    J += np.eye(3, dtype=J.dtype)[:, :, None, None, None]
    return determinant(J)


def along(ui: np.ndarray, axis: int) -> np.ndarray:
    """The derivative along an axis, per voxel; 0 where that is one voxel thick."""
    return np.gradient(ui, axis=axis) if ui.shape[axis] > 1 else np.zeros_like(ui)


def log_jacobian(u: np.ndarray, grid: Grid) -> np.ndarray:
    """log det J [X, Y, Z]: 0 where the volume stays, above where it grows; NaN where it folds.

    Half of it is below 0 in a healthy field: nothing has folded there.
    """
    det = jacobian(u, grid)
    return np.log(det, out=np.full_like(det, np.nan), where=det > 0)


def determinant(J: np.ndarray) -> np.ndarray:
    """Of matrices [3, 3, ...]."""
    return (
        J[0, 0] * (J[1, 1] * J[2, 2] - J[1, 2] * J[2, 1])
        - J[0, 1] * (J[1, 0] * J[2, 2] - J[1, 2] * J[2, 0])
        + J[0, 2] * (J[1, 0] * J[2, 1] - J[1, 1] * J[2, 0])
    )
