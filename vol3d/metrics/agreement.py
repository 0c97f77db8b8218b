"""How well measured volumes follow those asked for: correlation, slope, bias and error, in ml."""

from collections.abc import Sequence

import numpy as np

from vol3d.metrics.bootstrap import Resampled


def agreement(
    asked: np.ndarray, measured: np.ndarray, people: Sequence[str] | None = None, *, seed: int = 0
) -> dict:
    """Compare what was asked for (or is true) with what was measured, both [n] ml.

    `slope` and `intercept_ml` are of the ordinary least squares line of measured on asked;
    `bias_ml` is the mean of measured - asked and `mae_ml` the mean of its size. Each has a 95 %
    bootstrap interval (`Resampled`), named `..._ci`, over people. Pairs with a NaN are left out, and `n`
    counts the rest.

    Args:
        asked: [n] ml.
        measured: [n] ml.
        people: [n] whose each pair is; each is of a person of its own if not given.
        seed: of the bootstrap.

    Raises:
        ValueError: fewer than three whole pairs, or values that are all the same.
    """
    asked, measured = np.asarray(asked, float), np.asarray(measured, float)
    whole = np.isfinite(asked) & np.isfinite(measured)
    whose = np.arange(len(asked)) if people is None else np.asarray(people)
    asked, measured, whose = asked[whole], measured[whole], whose[whole]
    n = len(asked)
    if n < 3:
        raise ValueError(f"agreement takes three pairs of numbers or more, got {n}")
    for values, name in ((asked, "asked"), (measured, "measured")):
        if np.ptp(values) == 0:
            raise ValueError(f"every {name} value is {values[0]:g}, so there is no correlation")

    resampled = Resampled(whose, seed=seed)
    once = statistics(asked, measured, np.ones((1, n)))
    result = {"n": n} | {name: float(value[0]) for name, value in once.items()}
    for name, values in statistics(asked, measured, resampled.weights).items():
        result[f"{name}_ci"] = resampled.middle(values)
    return result


def statistics(
    asked: np.ndarray, measured: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """[R] of pairs [n] that count `weights` [R, n] times; NaN where those that count are all the same."""
    slope, pearson = line(asked, measured, weights)
    by_rank, spearman = line(ranks(asked, weights), ranks(measured, weights), weights)
    slope[np.isnan(by_rank)], pearson[np.isnan(spearman)] = np.nan, np.nan  # ranks are not rounded
    apart = measured - asked
    return {
        "pearson_r": pearson,
        "spearman_r": spearman,
        "slope": slope,
        "intercept_ml": mean(measured, weights) - slope * mean(asked, weights),
        "bias_ml": mean(apart, weights),
        "mae_ml": mean(np.abs(apart), weights),
    }


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[n] or [R, n] -> [R]."""
    return (weights * values).sum(1) / weights.sum(1)


def ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[R, n] of each value among all as often as they count; of ties the mean, as is usual."""
    levels, level = np.unique(values, return_inverse=True)
    count = weights @ (level[:, None] == np.arange(len(levels)))  # [R, levels]
    return (count.cumsum(1) - count / 2 + 0.5)[:, level]


def line(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope of y on x and their correlation, [R] each, of [n] or [R, n]."""
    x, y = x - mean(x, weights)[:, None], y - mean(y, weights)[:, None]
    xx, yy, xy = ((weights * product).sum(1) for product in (x * x, y * y, x * y))
    with np.errstate(divide="ignore", invalid="ignore"):
        return xy / xx, xy / np.sqrt(xx * yy)
