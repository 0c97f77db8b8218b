import numpy as np
import pytest
from scipy import stats

from vol3d.metrics.agreement import agreement, ranks


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    asked = np.linspace(10, 60, 40)
    return asked, 1.1 * asked + 3 + rng.normal(0, 6, 40)


def test_against_scipy(pairs):
    asked, measured = pairs
    got = agreement(asked, measured)
    fit = stats.linregress(asked, measured)
    assert got["n"] == 40
    assert got["pearson_r"] == pytest.approx(stats.pearsonr(asked, measured).statistic)
    assert got["spearman_r"] == pytest.approx(stats.spearmanr(asked, measured).statistic)
    assert got["slope"] == pytest.approx(fit.slope)
    assert got["intercept_ml"] == pytest.approx(fit.intercept)
    assert got["bias_ml"] == pytest.approx((measured - asked).mean())
    assert got["mae_ml"] == pytest.approx(np.abs(measured - asked).mean())


def test_intervals_are_near_scipys_bootstrap(pairs):
    asked, measured = pairs
    got = agreement(asked, measured)
    expected = stats.bootstrap(
        (asked, measured),
        lambda a, m: stats.linregress(a, m).slope,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=1000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert got["slope_ci"] == pytest.approx(list(expected), abs=0.03)
    for name in ("pearson_r", "spearman_r", "slope", "bias_ml", "mae_ml"):
        low, high = got[f"{name}_ci"]
        assert low < got[name] < high


def test_people_are_drawn_with_all_their_pairs(pairs):
    """A person measured twice says no more than once: the same intervals, not narrower ones."""
    once, twice = agreement(*pairs), agreement(*np.repeat(pairs, 2, 1), np.arange(40).repeat(2))
    for name in ("pearson_r", "spearman_r", "slope", "intercept_ml", "bias_ml", "mae_ml"):
        assert twice[name] == pytest.approx(once[name], rel=1e-3)
        assert twice[f"{name}_ci"] == pytest.approx(once[f"{name}_ci"], rel=1e-3)


def test_ranks_of_pairs_that_count_several_times():
    values, counts = np.array([3.0, 1, 2, 2]), np.array([[2, 1, 0, 3]])
    drawn = stats.rankdata(np.repeat(values, counts[0]))
    np.testing.assert_array_equal(ranks(values, counts)[0].repeat(counts[0]), drawn)


def test_seeded(pairs):
    assert agreement(*pairs, seed=3) == agreement(*pairs, seed=3)
    assert agreement(*pairs, seed=3) != agreement(*pairs, seed=4)


def test_perfect_agreement():
    got = agreement(np.arange(5.0), np.arange(5.0))
    assert (got["slope"], got["bias_ml"], got["mae_ml"]) == (1, 0, 0)
    assert got["pearson_r"] == pytest.approx(1)
    assert got["slope_ci"] == pytest.approx([1, 1])


def test_missing_values_are_left_out(pairs):
    asked, measured = (v.copy() for v in pairs)
    kept = agreement(asked[2:], measured[2:])
    asked[0] = measured[1] = np.nan
    assert agreement(asked, measured) == kept


@pytest.mark.parametrize(
    ("asked", "measured", "words"),
    [
        ([1, 2], [1, 2], "three pairs"),
        ([1, 2, np.nan], [1, 2, 3], "three pairs"),
        ([2, 2, 2], [1, 2, 3], "every asked value is 2"),
        ([1, 2, 3], [5, 5, 5], "every measured value"),
    ],
)
def test_too_little_to_say(asked, measured, words):
    with pytest.raises(ValueError, match=words):
        agreement(np.array(asked, float), np.array(measured, float))
