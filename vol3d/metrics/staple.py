"""The consensus that weighs each member by how well it agrees: STAPLE, by SimpleITK.

Warfield, Zou and Wells 2004 (doi:10.1109/TMI.2004.828354).
"""

from dataclasses import dataclass

import numpy as np

from vol3d.metrics.masks import Masks, bounding_box

ITERATIONS = 200
"""Of expectation maximisation at most; a few tens are usual."""


@dataclass(frozen=True, eq=False)
class Consensus:
    """What STAPLE makes of masks of one structure.

    Attributes:
        probability: [X, Y, Z] float32, that the voxel truly has the structure.
        sensitivity: [n] of each mask, against that; NaN where no mask has the structure.
        specificity: [n], within the box that STAPLE saw; NaN where no mask has the structure.
    """

    probability: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray


def staple(masks: Masks) -> Consensus:
    """STAPLE within the bounding box of the voxels that any mask has, and a voxel around it.

    The prior of the structure is its share of the voxels seen, and background on which all agree
    makes every mask look specific: over a whole volume both depend on how much air there is, and
    small structures are lost (Asman and Landman 2011, doi:10.1109/TMI.2011.2147795). Outside the
    box the probability is 0.
    """
    import SimpleITK as sitk  # here: it takes a second to load

    probability = np.zeros(masks.shape, np.float32)
    somewhere = masks.union
    if not somewhere.any():
        unknown = np.full(len(masks), np.nan)
        return Consensus(probability, unknown, unknown)
    box = bounding_box(somewhere)
    # A voxel of background all around: without any, the specificity is 0 / 0.
    images = [sitk.GetImageFromArray(np.pad(m[box], 1).astype(np.uint8)) for m in masks]
    weigh = sitk.STAPLEImageFilter()
    weigh.SetForegroundValue(1)
    weigh.SetMaximumIterations(ITERATIONS)
    within = sitk.GetArrayFromImage(weigh.Execute(images))
    probability[box] = within[1:-1, 1:-1, 1:-1]
    return Consensus(
        probability, np.array(weigh.GetSensitivity()), np.array(weigh.GetSpecificity())
    )
