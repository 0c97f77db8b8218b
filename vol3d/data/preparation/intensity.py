"""Intensities on the scale of the networks, so that training does not rescale them."""

import numpy as np

from vol3d.data.images import HEADROOM

STEP = 1e-4
"""Images are stored as int16 in steps of this."""
MEANING = f"1 is {HEADROOM} x the 99.5th percentile of the brain; stored in steps of {STEP}"


def scaled(data: np.ndarray) -> tuple[np.ndarray, float]:
    """Divide by 1.2 times the 99.5th percentile of the voxels above 0; also what 1 was before.

    Nothing is clipped: bright vessels go above 1, and a reader may decide.
    """
    one = HEADROOM * float(np.percentile(data[data > 0], 99.5))
    return (data / one).astype(np.float32), one
