"""Dice overlap and surface distance (by MONAI) of label maps, structure by structure."""

import numpy as np
import torch

from vol3d.data.dice import dice
from vol3d.metrics.masks import bounding_box


def overlap(
    predicted: np.ndarray, truth: np.ndarray, num_labels: int, spacing: tuple[float, float, float]
) -> dict[str, list[float]]:
    """Measures of each structure 1 ... K - 1.

    Args:
        predicted: [X, Y, Z] labels.
        truth: [X, Y, Z] labels.
        num_labels: K, the background included.
        spacing: mm along X, Y, Z.

    Returns:
        dice, see `vol3d.data.dice`; hd95_mm, the 95th percentile of distances between surfaces (contours
        in a volume of one slice), the larger of both ways, NaN where one has none. A structure each.
    """
    from monai.metrics import compute_hausdorff_distance  # here: it takes seconds

    # A slice has a contour; eroded in 3-D all of it would be surface.
    flat = [axis for axis, n in enumerate(predicted.shape) if n == 1][:1]
    spacing = [mm for axis, mm in enumerate(spacing) if axis not in flat]
    overlaps, hd95_mm = [], []
    for k in range(1, num_labels):
        ours, theirs = predicted == k, truth == k
        somewhere = ours | theirs
        box = bounding_box(somewhere, (1, 1, 1)) if somewhere.any() else np.s_[:1, :1, :1]
        overlaps.append(dice(ours, theirs))
        pair = [
            torch.from_numpy(mask[box].squeeze(tuple(flat)).copy())[None, None]
            for mask in (ours, theirs)
        ]
        both = ours.any() and theirs.any()
        far = (
            compute_hausdorff_distance(
                *pair, include_background=True, percentile=95, spacing=spacing
            )
            if both
            else np.nan
        )
        hd95_mm.append(float(far))
    return {"dice": overlaps, "hd95_mm": hd95_mm}
