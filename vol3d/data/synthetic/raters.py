"""Raters who outline lesions, each with a bias of their own and an error that wanders."""

from dataclasses import dataclass

import numpy as np

from vol3d.data.rng import numpy_rng
from vol3d.data.synthetic.lesions import Outline, wander

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


def outline(rater: Rater, truth: Outline, rng: np.random.Generator) -> Outline:
    """Where the rater draws the surface of lesions: bias + error * e(x) outside of the true one.

    Args:
        rater: who it is.
        truth: the true surface.
        rng: of this rater and person, for this alone; draws e, smooth and of unit variance.
    """
    e = wander(rng, truth.near, ERROR_KNOTS_MM)
    return truth.moved(rater.bias_mm + rater.error_mm * e)
