"""Where segmentations are scored voxel by voxel: near structures, not in the air around them."""

import numpy as np

from vol3d.metrics.masks import bounding_box

MARGIN_MM = 3.0
"""Three voxels of 1 mm: wide enough for a border that is off by one or two, and its doubts."""


def foreground_band(
    *label_maps: np.ndarray, spacing: tuple[float, float, float], margin_mm: float = MARGIN_MM
) -> np.ndarray:
    """The voxels of any structure in any of the label maps, and those within so many mm of one.

    Nearly all voxels of a volume are background far from everything, on which all are right and
    sure. Over a whole volume they alone decide a calibration error or an AUROC, and a larger field
    of view makes any model look better.

    Args:
        label_maps: [X, Y, Z] each, such as the truth and the prediction; 0 is background.
        spacing: mm along X, Y, Z.
        margin_mm: between centres of voxels.

    Returns:
        [X, Y, Z] bool; nowhere where no map has a structure.
    """
    from scipy import ndimage  # here: it takes a while to load

    foreground = np.any([label_map > 0 for label_map in label_maps], axis=0)
    if not foreground.any():
        return foreground
    margin = tuple(int(np.ceil(margin_mm / s)) for s in spacing)
    box = bounding_box(foreground, margin)
    distance_mm = ndimage.distance_transform_edt(~foreground[box], sampling=spacing)
    band = np.zeros_like(foreground)
    band[box] = distance_mm <= margin_mm
    return band
