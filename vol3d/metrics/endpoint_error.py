"""How far transforms miss: the truth, or where they began, after a way there and a way back."""

import numpy as np
import SimpleITK as sitk

from vol3d.transforms.displacement import to_voxels
from vol3d.transforms.transform import chain, sampled
from vol3d.volume import Grid


def round_trip(
    there: sitk.Transform, back: sitk.Transform, grid: Grid, mask: np.ndarray
) -> dict[str, float]:
    """The distance from x to back(there(x)) over the voxels of a mask, in voxels.

    A transform and its inverse, or the registrations of a to b and of b to a.

    Args:
        there: from points of the grid's space to points of another.
        back: from points of that to points of the grid's.
        grid: whose voxels are sent.
        mask: [X, Y, Z]; what is above 0 counts.

    Returns:
        mean_voxels, p95_voxels (95th percentile), max_voxels.
    """
    off = sampled(chain([there, back]), grid)
    return endpoint_error(off, np.zeros_like(off), grid, mask)


def endpoint_error(
    found: np.ndarray, truth: np.ndarray, grid: Grid, mask: np.ndarray
) -> dict[str, float]:
    """The distance between where two displacements lead, over the voxels of a mask, in voxels.

    Args:
        found: [3, X, Y, Z] mm, RAS+.
        truth: likewise.
        grid: of both.
        mask: [X, Y, Z]; what is above 0 counts.

    Returns:
        mean_voxels, p95_voxels (95th percentile), max_voxels.
    """
    miss = np.linalg.norm(to_voxels(found - truth, grid)[:, mask > 0], axis=0)
    return {
        "mean_voxels": float(miss.mean()),
        "p95_voxels": float(np.percentile(miss, 95)),
        "max_voxels": float(miss.max()),
    }
