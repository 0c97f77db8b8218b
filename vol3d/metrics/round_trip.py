"""How far a way there and a way back, one after the other, miss where they began; in physical space."""

import numpy as np
import SimpleITK as sitk

from vol3d.transforms.displacement import to_voxels
from vol3d.transforms.transform import chain, sampled
from vol3d.volume import Grid


def round_trip(
    there: sitk.Transform, back: sitk.Transform, grid: Grid, mask: np.ndarray
) -> dict[str, float]:
    """The distance from x to back(there(x)) over the voxels of a mask, in voxels.

    Of a transform and its inverse, or of the registrations of a to b and of b to a.

    Args:
        there: from points of the grid's space to points of another.
        back: from points of that to points of the grid's.
        grid: whose voxels are sent.
        mask: [X, Y, Z]; what is above 0 counts.

    Returns:
        mean_voxels, p95_voxels (95th percentile), max_voxels.
    """
    off = to_voxels(sampled(chain([there, back]), grid), grid)[:, mask > 0]
    miss = np.linalg.norm(off, axis=0)
    return {
        "mean_voxels": float(miss.mean()),
        "p95_voxels": float(np.percentile(miss, 95)),
        "max_voxels": float(miss.max()),
    }
