"""Intervals over people, against scipy's bootstrap and closed forms."""

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, t

from vol3d.metrics.bootstrap import Resampled, share_beyond


def test_the_mean_is_as_scipy_has_it():
    values = np.random.default_rng(1).normal(3, 1, 40)
    found = Resampled([f"p{i}" for i in range(40)], resamples=20000).mean(values)
    theirs = bootstrap(
        *((values,), np.mean),
        method="percentile",
        n_resamples=20000,
        random_state=0,
        confidence_level=1 - 2 * share_beyond(40),
    )
    assert found["value"] == pytest.approx(values.mean())
    assert found["n"] == 40
    assert found["ci"] == pytest.approx(list(theirs.confidence_interval), abs=0.02)


def test_of_few_people_it_is_as_wide_as_students():
    values = np.random.default_rng(1).normal(3, 1, 8)
    found = Resampled([f"p{i}" for i in range(8)], resamples=50000).mean(values)
    by_student = t.interval(0.95, 7, values.mean(), values.std(ddof=1) / 8**0.5)
    assert found["ci"] == pytest.approx(list(by_student), rel=0.06)
    assert np.ptp(found["ci"]) == pytest.approx(np.ptp(by_student), rel=0.06)
    assert share_beyond(100_000) == pytest.approx(0.025, rel=1e-3)
    assert [round(100 * share_beyond(n), 1) for n in (15, 5)] == [1.3, 0.1]


def test_visits_of_a_person_stay_together():
    """Five visits each with the same value tell no more than one visit each."""
    values = np.arange(12.0)
    people = [f"p{i:02d}" for i in range(12)]
    one = Resampled(people).mean(values)
    five = Resampled(np.repeat(people, 5).tolist()).mean(np.repeat(values, 5))
    assert five["ci"] == pytest.approx(one["ci"])
    assert (one["n"], five["n"]) == (12, 60)


def test_what_is_not_there_is_left_out():
    found = Resampled(["a", "b", "c", "d"]).mean([2.0, float("nan"), 2.0, 2.0])
    assert found == {"value": 2.0, "ci": [2.0, 2.0], "n": 3}
    few = Resampled(["a", "b", "c", "d"]).mean([2.0, float("nan"), float("nan"), 2.0])
    assert few == {"value": 2.0, "ci": None, "n": 2}


def test_what_always_holds_may_yet_fail():
    """Wilson's interval, as scipy has it: 3 of 3 tell little, 60 of 60 much."""
    few = Resampled(list("abc")).share([True] * 3)
    assert few["value"] == 1
    assert few["ci"] == pytest.approx([3 / (3 + 1.959964**2), 1])
    many = Resampled([f"p{i}" for i in range(60)]).share([True] * 54 + [False] * 6)
    theirs = binomtest(54, 60).proportion_ci(method="wilson")
    assert many["ci"] == pytest.approx([theirs.low, theirs.high], abs=1e-6)
    assert Resampled(["a", "b"]).share([True, True])["ci"] is None


def test_a_ratio_to_nothing_is_none():
    """Three of ten people have raters who differ: resamples without them have no ratio."""
    of_raters = [1.0, 1.0, 2.0] + [0.0] * 7
    found = Resampled([f"p{i}" for i in range(10)]).ratio([1.0] * 10, of_raters)
    assert np.isfinite(found["ci"]).all()


def test_a_ratio_is_that_of_sums():
    found = Resampled(["a", "b", "c"]).ratio([1, 0, 9], [2, 0, 10])
    assert (found["value"], found["n"]) == (10 / 12, 12)
    assert np.isnan(Resampled(["a"]).ratio([0], [0])["value"])
