"""Diffeomorphic warps: from a velocity field to a displacement, and images moved by it."""

import numpy as np
import torch
from torch.nn.functional import avg_pool3d, grid_sample, interpolate

from vol3d.volume import Grid

SQUARINGS = 6


def integrate(velocity: np.ndarray, spacing: float) -> np.ndarray:
    """Follow a velocity field for unit time: scaling and squaring (Arsigny et al. 2006).

    Args:
        velocity: [3, X, Y, Z] in mm.
        spacing: of the field's grid, in mm.

    Returns:
        The displacement u, [3, X, Y, Z] in mm: the point x ends at x + u(x).
    """
    u = torch.from_numpy(velocity)[None] / (spacing * 2**SQUARINGS)  # [1, 3, X, Y, Z], voxels
    for _ in range(SQUARINGS):
        u = u + sample(u, u)  # (id + u) o (id + u)
    return (u[0] * spacing).numpy()


def warp(images: np.ndarray, displacement: np.ndarray, spacing: float) -> np.ndarray:
    """Images [C, X', Y', Z'] read at x + u(x) for each voxel x of u's grid; 0 outside.

    Args:
        images: on any grid that fills the same field of view.
        displacement: [3, X, Y, Z] in mm.
        spacing: of the displacement's grid, in mm.
    """
    u = torch.from_numpy(displacement)[None] / spacing
    return sample(torch.from_numpy(images)[None], u, outside="zeros")[0].numpy()


def sample(images: torch.Tensor, u: torch.Tensor, outside: str = "border") -> torch.Tensor:
    """Images [1, C, X', Y', Z'] at the voxels of u [1, 3, X, Y, Z] plus u, in its voxels."""
    shape = u.shape[2:]
    axes = [
        (2 * (u[:, i] + torch.arange(n).view([-1 if j == i else 1 for j in range(3)])) + 1) / n - 1
        for i, n in enumerate(shape)
    ]
    where = torch.stack(axes[::-1], dim=-1)  # [1, X, Y, Z, 3] from -1 to 1; last axis first
    return grid_sample(images, where, padding_mode=outside, align_corners=False)


def finer(displacement: np.ndarray, factor: int) -> np.ndarray:
    """A displacement [3, X, Y, Z] in mm on a grid whose voxels are `factor` times smaller."""
    if factor == 1:
        return displacement
    u = torch.from_numpy(displacement)[None]
    return interpolate(u, scale_factor=factor, mode="trilinear", align_corners=False)[0].numpy()


def block_mean(images: np.ndarray, factor: int) -> np.ndarray:
    """Images [C, X, Y, Z] averaged over blocks of `factor`^3 voxels."""
    if factor == 1:
        return images
    return avg_pool3d(torch.from_numpy(images)[None], factor)[0].numpy()


def jacobian(displacement: np.ndarray, grid: Grid) -> np.ndarray:
    """How many times larger x -> x + u(x) makes a volume, det J [X, Y, Z]; 0 or less: folded."""
    rows = [np.gradient(u, *grid.spacing) for u in displacement]
    j = np.stack([np.stack(row) for row in rows])  # [3, 3, X, Y, Z]
    j += np.eye(3, dtype=j.dtype)[:, :, None, None, None]
    return np.linalg.det(np.moveaxis(j, (0, 1), (-2, -1)))
