"""Dice overlap of all labels of two maps at once, however many there are."""

import numpy as np


def label_overlap(ours: np.ndarray, theirs: np.ndarray) -> dict[int, float]:
    """Dice (1945, Ecology 26:297) of each label but 0 that either map has; 0 where one lacks it.

    Args:
        ours: [X, Y, Z] whole numbers from 0 on.
        theirs: likewise.
    """
    ids, at = np.unique([ours, theirs], return_inverse=True)
    one, other = at.reshape(2, -1)
    sizes = np.bincount(one, minlength=len(ids)) + np.bincount(other, minlength=len(ids))
    shared = np.bincount(one[one == other], minlength=len(ids))
    return {
        int(k): 2 * float(s) / float(n) for k, s, n in zip(ids, shared, sizes, strict=True) if k
    }
