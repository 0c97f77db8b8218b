"""What range a volume lies in, by the members of an ensemble alone, and with a promise kept.

The members' own range says what the model thinks; nothing holds it to the truth. Split conformal
prediction widens (or narrows) it by what it took on people whom no training saw: conformalised
quantile regression, Romano et al. 2019 (arXiv:1905.03222). A new person's true
volume then lies inside with probability 1 - alpha or more, over people like those.
"""

import math

import numpy as np

from vol3d.errors import DataError

ROUNDING_ML = 1e-5
"""Volumes of segmentations are written so exactly; where all members agree, an interval has no width."""


def credible_interval(volumes_ml: np.ndarray, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """The middle share of members: quantiles (1 - level) / 2 and (1 + level) / 2.

    Args:
        volumes_ml: [members, ...] ml, such as `Ensemble.volumes` times a voxel's ml.
        level: the share inside.

    Returns:
        low and high, [...] ml.
    """
    low, high = np.quantile(volumes_ml, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def conformal_offset(
    low: np.ndarray,
    high: np.ndarray,
    truth: np.ndarray,
    *,
    alpha: float = 0.1,
) -> float:
    """By how much intervals must be widened so that they hold the truth of 1 - alpha of people.

    The score of a person is how far the truth lies outside, max(low - truth, truth - high), which
    is negative inside; the offset is the ceil((n + 1) (1 - alpha))-th smallest of n. With
    low = high = the predicted volume it is that of the absolute residual.

    Args:
        low: [n] ml, of people whom no training saw.
        high: [n] ml.
        truth: [n] ml.
        alpha: the share of people that may be missed.

    Returns:
        ml.

    Raises:
        DataError: too few people for this alpha.
    """
    low, high, truth = (np.asarray(v, float) for v in (low, high, truth))
    n = len(truth)
    rank = math.ceil((n + 1) * (1 - alpha) - 1e-9)  # 10 * 0.9 is to be 9, whatever it rounds to
    if rank > n:
        least = math.ceil(1 / alpha - 1 - 1e-9)
        raise DataError(
            f"an interval that misses {alpha:.0%} of people at most takes {least} held-out people or "
            f"more, got {n}: hold out more, or ask for less"
        )
    scores = np.maximum(low - truth, truth - high)
    return float(np.sort(scores)[rank - 1])


def conformal_interval(
    low: np.ndarray, high: np.ndarray, offset: float
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals widened by the offset of other people.

    No volume is below 0. A negative offset can turn an interval inside out: what is left is its
    middle.

    Args:
        low: [n] ml.
        high: [n] ml.
        offset: what `conformal_offset` gave, ml.

    Returns:
        low and high, [n] ml.
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    wide_low, wide_high = low - offset, high + offset
    inside_out, middle = wide_low > wide_high, (low + high) / 2
    low, high = (np.where(inside_out, middle, v) for v in (wide_low, wide_high))
    return np.maximum(low, 0), np.maximum(high, 0)


def holds(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[n] bool: whether an interval in ml has the truth in it, borders included."""
    return (low - ROUNDING_ML <= truth) & (truth <= high + ROUNDING_ML)
