"""How far a figure may move with other people: a percentile bootstrap over people, not visits.

Visits of one person are alike, so people are drawn anew and bring all their visits (cluster
bootstrap: Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x). Of few people the middle 95 %
would be too narrow, and more of them is taken (`share_beyond`).
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
        """The 95 % interval of a statistic of weights [R, visits] -> [R]; None for too few people."""
        return self.middle(statistic(self.weights))

    def middle(self, values: np.ndarray, n: int | None = None) -> list[float] | None:
        """The 95 % interval by what the weights gave, [R]; None for too few people.

        Args:
            values: [R].
            n: people who have a part in it; all if not given.
        """
        n = len(set(self.people)) if n is None else n
        if n < FEWEST or np.isnan(values).all():
            return None
        beyond = share_beyond(n)
        return [float(q) for q in np.nanquantile(values, [beyond, 1 - beyond])]

    def share(self, holds: Sequence[bool]) -> dict[str, object]:
        """How often something holds, with an interval that is not narrow where it always or never does.

        Wilson's (1927, doi:10.1080/01621459.1927.10502953), for as many trials as there are people: a
        bootstrap of visits that are all alike has no width.
        """
        found, n = self.mean(np.asarray(holds, float)), len(set(self.people))
        if n < FEWEST:
            return {**found, "ci": None}
        p, z = float(found["value"]), 1.959964
        middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        ends = [(middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
        return {**found, "ci": [float(np.clip(end, 0, 1)) for end in ends]}

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
        n = len({p for p, has in zip(self.people, there, strict=True) if has})
        below = self.weights @ under.astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.middle(np.where(below > 0, (self.weights @ over) / below, np.nan), n)


def share_beyond(n: int) -> float:
    """The share of resamples that lies beyond either end of a 95 % interval over n people.

    The expanded percentile interval (Hesterberg 2015, arXiv:1411.5279): resamples of n vary as if n were
    n - 1, and their quantiles are those of a normal distribution where Student's are due. 2.5 % for many
    people, 1.3 % for fifteen, 0.1 % for five.
    """
    from scipy.special import ndtr, stdtrit

    return float(ndtr(stdtrit(n - 1, 0.025) * np.sqrt(n / (n - 1))))
