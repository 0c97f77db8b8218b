"""Dice overlap (Dice 1945, Ecology 26:297-302), with one rule for masks that hold nothing."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def dice(a: "np.ndarray | Tensor", b: "np.ndarray | Tensor") -> float:
    """Dice overlap of two masks of one shape, bool: 1 the same, 0 apart.

    Two empty masks agree: 1. Where one alone is empty it is 0, as of any two that share nothing.
    """
    return float(dice_of_counts(*(int(mask.sum()) for mask in (a, b, a & b))))


def dice_of_counts(
    a: np.ndarray | int, b: np.ndarray | int, shared: np.ndarray | int
) -> np.ndarray:
    """The same from the voxels of one mask, of the other, and of both; of many pairs where broadcast."""
    either = np.add(a, b)
    return np.where(either > 0, np.multiply(2, shared) / np.maximum(either, 1), 1.0)
