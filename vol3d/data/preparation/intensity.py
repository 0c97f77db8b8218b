"""Intensities on the scale of the networks, so that training does not rescale them."""

import numpy as np

from vol3d.data.network_images import HEADROOM

STEP = 1e-4
"""Images are stored as int16 in steps of this."""
MOST = 32767 * STEP
"""What is brighter is stored as this."""
MEANING = (
    f"1 is {HEADROOM} x the 99.5th percentile of the brain; vessels may be brighter; stored in steps of "
    f"{STEP}, up to {MOST:.4f}"
)

PADDED = 0.1
"""A share of exact zeros that is no chance: they were put there, around a brain or over a face."""
LEAST_OFFSET = 0.05
"""A smaller one, in parts of the range of intensities, is noise or what an interpolation leaves."""


def levelled(data: np.ndarray) -> tuple[np.ndarray, float]:
    """Intensities that begin at 0, as those of a scanner do; and what was put on them for that.

    Some scanners and exports take a constant off, or scale to a mean of 0; the darker half of a brain
    is then below 0, and would be lost.

    Args:
        data: float32 [X, Y, Z]; zeros that were put there stay 0.
    """
    padding = data == 0
    if padding.mean() <= PADDED:
        padding = np.zeros_like(padding)
    if padding.all():
        return data, 0.0
    low, high = np.percentile(data[~padding], [0.1, 99])
    is_dark = padding.any() and low >= 0  # the darkest of a brain that was stripped
    if is_dark or abs(low) <= LEAST_OFFSET * (high - low):
        return data, 0.0
    return np.where(padding, 0, np.maximum(data - low, 0)).astype(np.float32), -float(low)


def scaled(data: np.ndarray) -> tuple[np.ndarray, float]:
    """Divide by 1.2 times the 99.5th percentile of the voxels above 0; also what 1 was before.

    Nothing is clipped here: bright vessels go above 1, and a reader may decide; files hold up to MOST.
    """
    one = HEADROOM * float(np.percentile(data[data > 0], 99.5))
    return (data / one).astype(np.float32), one
