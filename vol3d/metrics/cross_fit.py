"""What is fitted on some people is judged on others: folds of people, and fits that keep to them.

A temperature or an interval that was fitted on a person flatters itself on that person. So people
are dealt into folds, and each is judged by what was fitted on the other folds.
"""

from collections.abc import Sequence

import numpy as np

from vol3d.data.rng import numpy_rng
from vol3d.metrics.temperature import fit_temperature
from vol3d.metrics.volumes import conformal_interval, conformal_offset

Voxels = tuple[np.ndarray, np.ndarray]
"""Probabilities [K, n] and labels [n] of one visit."""


def folds_of(people: Sequence[str], folds: int, seed: int = 0) -> np.ndarray:
    """[visits] the fold of each, all visits of a person in one; sizes differ by a person at most."""
    names, whose = np.unique(list(people), return_inverse=True)
    order = numpy_rng("folds", seed).permutation(len(names))
    return (np.argsort(order) % min(folds, len(names)))[whose]


def first_of_each(people: Sequence[str]) -> np.ndarray:
    """[visits] bool: the first visit of each person."""
    seen: set[str] = set()
    return np.array([not (p in seen or seen.add(p)) for p in people])


def temperatures_of_others(visits: Sequence[Voxels], fold: np.ndarray) -> np.ndarray:
    """[visits] the temperature fitted on the other folds; 1 where there is no other fold."""
    out = np.ones(len(visits))
    for k in np.unique(fold):
        others = [v for v, f in zip(visits, fold, strict=True) if f != k and v[1].size]
        if others:
            out[fold == k] = fit_temperature(others)
    return out


def conformal_of_others(
    low: np.ndarray,
    high: np.ndarray,
    truth: np.ndarray,
    people: Sequence[str],
    fold: np.ndarray,
    *,
    alpha: float = 0.1,
) -> tuple[np.ndarray, np.ndarray]:
    """[visits] low and high, widened by what it took in the other folds (`conformal_offset`).

    The promise is of people who are exchangeable, which visits of one person are not: each person
    counts with the first visit in what is fitted.

    Raises:
        DataError: some fold leaves too few others for this alpha.
    """
    low, high, truth = (np.asarray(v, float) for v in (low, high, truth))
    out_low, out_high = low.copy(), high.copy()
    first = first_of_each(people)
    for k in np.unique(fold):
        of, others = fold == k, (fold != k) & first
        offset = conformal_offset(low[others], high[others], truth[others], alpha=alpha)
        out_low[of], out_high[of] = conformal_interval(low[of], high[of], offset)
    return out_low, out_high
