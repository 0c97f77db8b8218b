"""Raters who outline lesions, each with a bias of their own and an error that wanders."""

from dataclasses import dataclass

import numpy as np

from vol3d.data.rng import numpy_rng
from vol3d.data.synthetic.lesions import Lesions, filled
from vol3d.data.synthetic.velocity import SPACING, draw_smooth
from vol3d.data.synthetic.warp import finer
from vol3d.volume import Grid, mni_grid

BIAS_MM = 1.0
"""The bias of a rater lies between minus and plus this."""
ERROR_MM = (0.2, 0.8)
"""The smallest and the largest standard deviation of a rater's error."""
ERROR_KNOTS_MM = 8.0
"""Over which distance the error changes."""
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Rater:
    """How a rater errs.

    Attributes:
        bias_mm: how far outside of the true surface of a lesion theirs lies; negative: inside.
        error_mm: standard deviation of what is added to that, which changes smoothly in space and
            anew from person to person.
    """

    bias_mm: float
    error_mm: float


def draw_rater(seed: int, number: int) -> Rater:
    """Draw rater `number`, from 1, who is the same however many there are.

    Biases step by the golden ratio around their range, so that a few raters differ already.
    """
    start = numpy_rng(seed, "raters").uniform()
    error = numpy_rng(seed, "rater", number).uniform(*ERROR_MM)
    return Rater(round(BIAS_MM * (2 * ((start + number * GOLDEN) % 1) - 1), 3), round(error, 3))


def outline(
    rater: Rater, lesions: Lesions, white: np.ndarray, grid: Grid, rng: np.random.Generator
) -> np.ndarray:
    """Which share [X, Y, Z] of each voxel the rater takes for lesion, within white matter.

    The surface of theirs is where the true distance is bias + error * e(x), with e smooth, random
    and of unit variance.

    Args:
        rater: who it is.
        lesions: the truth.
        white: [X, Y, Z] which share of a voxel is white matter.
        grid: that of both.
        rng: of this rater and person, for this alone.
    """
    e = draw_smooth(rng, mni_grid(SPACING), ERROR_KNOTS_MM, 1)
    e = finer(e, round(SPACING / grid.spacing[0]))[0]
    theirs = lesions.distance - np.float32(rater.bias_mm) - np.float32(rater.error_mm) * e
    return filled(theirs, grid) * white
