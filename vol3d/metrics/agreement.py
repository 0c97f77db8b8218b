"""How well measured volumes follow those asked for: correlation, slope, bias and error, in ml."""

import numpy as np

RESAMPLES = 2000


def agreement(asked: np.ndarray, measured: np.ndarray, *, seed: int = 0) -> dict:
    """Compare what was asked for (or is true) with what was measured, both [n] ml.

    `slope` and `intercept_ml` are of the ordinary least squares line of measured on asked;
    `bias_ml` is the mean of measured - asked and `mae_ml` the mean of its size. Each has a 95 %
    percentile bootstrap interval over the pairs, named `..._ci`. Pairs with a NaN are left out,
    and `n` counts the rest.

    Raises:
        ValueError: fewer than three whole pairs, or values that are all the same.
    """
    asked, measured = np.asarray(asked, float), np.asarray(measured, float)
    whole = np.isfinite(asked) & np.isfinite(measured)
    asked, measured = asked[whole], measured[whole]
    n = len(asked)
    if n < 3:
        raise ValueError(f"agreement takes three pairs of numbers or more, got {n}")
    for values, name in ((asked, "asked"), (measured, "measured")):
        if np.ptp(values) == 0:
            raise ValueError(f"every {name} value is {values[0]:g}, so there is no correlation")

    result = {"n": n} | {k: float(v[0]) for k, v in statistics(asked[None], measured[None]).items()}
    drawn = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    for name, values in statistics(asked[drawn], measured[drawn]).items():
        result[f"{name}_ci"] = [float(q) for q in np.nanpercentile(values, [2.5, 97.5])]
    return result


def statistics(asked: np.ndarray, measured: np.ndarray) -> dict[str, np.ndarray]:
    """The statistics of each row of pairs [R, n]; NaN where a row's values are all the same."""
    from scipy.stats import rankdata  # here: it takes a while to load

    slope, pearson = line(asked, measured)
    _, spearman = line(rankdata(asked, axis=1), rankdata(measured, axis=1))
    apart = measured - asked
    return {
        "pearson_r": pearson,
        "spearman_r": spearman,
        "slope": slope,
        "intercept_ml": measured.mean(1) - slope * asked.mean(1),
        "bias_ml": apart.mean(1),
        "mae_ml": np.abs(apart).mean(1),
    }


def line(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope of y on x and their correlation, of each row [R, n]."""
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    xx, yy, xy = (x * x).sum(1), (y * y).sum(1), (x * y).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return xy / xx, xy / np.sqrt(xx * yy)
