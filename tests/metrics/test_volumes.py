import json

import numpy as np
import pytest

from vol3d.errors import DataError
from vol3d.metrics.volumes import (
    conformal_interval,
    conformal_offset,
    credible_interval,
    holds,
)


def test_credible_interval_is_the_middle_share():
    volumes = np.arange(101.0)
    assert credible_interval(volumes) == pytest.approx((5, 95))
    low, high = credible_interval(np.stack([volumes, 2 * volumes], 1), level=0.5)
    np.testing.assert_array_equal(low, [25, 50])
    np.testing.assert_array_equal(high, [75, 150])


def test_offset_by_hand():
    """Scores of nine people are 1 ... 9 ml outside: of 9, ceil(10 x 0.8) = 8 is wanted."""
    low, high = np.full(9, 10.0), np.full(9, 20.0)
    truth = np.array([9, 22, 7, 24, 5, 26, 3, 28, 1.0])
    offset = conformal_offset(low, high, truth, alpha=0.2)
    assert offset == 8
    assert json.loads(json.dumps(offset)) == 8
    got = conformal_interval(low, high, offset)
    np.testing.assert_array_equal(got, [[2] * 9, [28] * 9])
    assert holds(*got, truth).mean() == pytest.approx(8 / 9)
    assert conformal_offset(low, high, truth, alpha=0.1) == 9


def test_intervals_that_are_too_wide_shrink():
    low, high, truth = np.zeros(9), np.full(9, 20.0), np.full(9, 10.0)
    offset = conformal_offset(low, high, truth)
    assert offset == -10
    np.testing.assert_array_equal(conformal_interval([0], [20], offset), [[10], [10]])
    np.testing.assert_array_equal(conformal_interval([4], [8], offset), [[6], [6]])  # the middle


def test_no_volume_is_below_zero():
    np.testing.assert_array_equal(conformal_interval([1], [3], 2.0), [[0], [5]])


@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (19, 0.05), (4, 0.2)])
def test_least_number_of_people(n, alpha):
    enough, few = np.ones(n), np.ones(n - 1)
    assert conformal_offset(enough, enough, enough, alpha=alpha) == 0
    with pytest.raises(DataError, match=f"takes {n} held-out people or more, got {n - 1}"):
        conformal_offset(few, few, few, alpha=alpha)


def test_promise_is_kept():
    """Members far too sure of themselves; over many draws coverage is (18 / 20 =) 0.9 in the mean.

    The coverage of one draw of 19 people follows Beta(18, 2) with standard deviation 0.065.
    """
    rng = np.random.default_rng(0)
    shares, before = [], []
    for _ in range(400):
        predicted = rng.uniform(10, 50, 219)
        truth = predicted + rng.normal(0, 3, 219)
        low, high = predicted - 0.5, predicted + 0.5
        offset = conformal_offset(low[:19], high[:19], truth[:19])
        before.append(holds(low[19:], high[19:], truth[19:]).mean())
        wide = conformal_interval(low[19:], high[19:], offset)
        shares.append(holds(*wide, truth[19:]).mean())
    assert np.mean(before) < 0.2
    assert np.mean(shares) == pytest.approx(0.9, abs=3 * 0.07 / 20)
