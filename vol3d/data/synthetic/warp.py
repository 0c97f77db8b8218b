"""Diffeomorphic warps: from a velocity field to a displacement, and images moved by it."""

import numpy as np
import torch
from torch.nn.functional import avg_pool3d, interpolate

from vol3d.transforms import warp as batches


def integrate(velocity: np.ndarray, spacing: float) -> np.ndarray:
    """Follow a velocity field for unit time.

    Args:
        velocity: [3, X, Y, Z] in mm.
        spacing: of the field's grid, in mm.

    Returns:
        The displacement u, [3, X, Y, Z] in mm: the point x ends at x + u(x).
    """
    u = batches.integrate(torch.from_numpy(velocity)[None] / spacing)  # [1, 3, X, Y, Z], voxels
    return (u[0] * spacing).numpy()


def warp(images: np.ndarray, displacement: np.ndarray, spacing: float) -> np.ndarray:
    """Images [C, X', Y', Z'] read at x + u(x) for each voxel x of u's grid; 0 outside.

    Args:
        images: on any grid that fills the same field of view.
        displacement: [3, X, Y, Z] in mm.
        spacing: of the displacement's grid, in mm.
    """
    u = torch.from_numpy(displacement)[None] / spacing
    return batches.warp(torch.from_numpy(images)[None], u)[0].numpy()


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
