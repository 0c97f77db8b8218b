"""How far a figure may move with other people: a percentile bootstrap over people, not visits.

Visits of one person are alike, so people are drawn anew and bring all their visits (cluster
bootstrap: Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x).
"""

from collections.abc import Callable, Sequence

import numpy as np

from vol3d.data.rng import numpy_rng

RESAMPLES = 2000
FEWEST = 3
"""People; an interval over fewer would only look like one."""


class Resampled:
    """People drawn with replacement, as many as there are, again and again.

    Attributes:
        people: whose each visit is.
        weights: [resamples, visits] how often each visit counts.
    """

    def __init__(self, people: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.people = list(people)
        names, whose = np.unique(self.people, return_inverse=True)
        n = len(names)
        drawn = numpy_rng("bootstrap", seed).multinomial(n, np.full(n, 1 / n), size=resamples)
        self.weights = drawn[:, whose].astype(np.float64)

    def interval(self, statistic: Callable[[np.ndarray], np.ndarray]) -> list[float] | None:
        """The middle 95 % of a statistic of weights [R, visits] -> [R]; None for too few people."""
        return self.middle(statistic(self.weights))

    def middle(self, values: np.ndarray) -> list[float] | None:
        """The middle 95 % of what the weights gave, [R]; None for too few people."""
        if len(set(self.people)) < FEWEST or np.isnan(values).all():
            return None
        return [float(q) for q in np.nanpercentile(values, [2.5, 97.5])]

    def mean(self, values: Sequence[float]) -> dict[str, object]:
        """The mean over visits with its interval; values that are NaN are left out.

        Returns:
            value, NaN where no visit has one; ci, None for too few people; n, the visits that count.
        """
        values = np.asarray(values, float)
        there = np.isfinite(values)
        return {
            "value": float(values[there].mean()) if there.any() else float("nan"),
            "ci": self.ratio_interval(np.where(there, values, 0), there, there),
            "n": int(there.sum()),
        }

    def ratio(self, over: Sequence[float], under: Sequence[float]) -> dict[str, object]:
        """A ratio of sums over visits, with its interval.

        Args:
            over: [visits], such as the lesions found.
            under: [visits], such as the lesions there are.

        Returns:
            value, NaN where the sum below is 0; ci; n, that sum.
        """
        over, under = np.asarray(over, float), np.asarray(under, float)
        total = under.sum()
        return {
            "value": float(over.sum() / total) if total else float("nan"),
            "ci": self.ratio_interval(over, under, under > 0),
            "n": int(total),
        }

    def ratio_interval(
        self, over: np.ndarray, under: np.ndarray, there: np.ndarray
    ) -> list[float] | None:
        """The interval of a ratio of sums, if enough people have a part in it."""
        if len({p for p, has in zip(self.people, there, strict=True) if has}) < FEWEST:
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.interval(lambda w: (w @ over) / (w @ under.astype(float)))
