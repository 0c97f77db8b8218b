import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from vol3d.metrics.band import foreground_band
from vol3d.metrics.calibration import Calibration, Reliability
from vol3d.metrics.temperature import apply_temperature, fit_temperature

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("calibration.json").read_text())


@pytest.fixture
def voxels():
    return np.array(GOLDEN["probabilities"]), np.array(GOLDEN["truth"])


@pytest.mark.parametrize("bins", [10, 15])
def test_against_netcal(voxels, bins):
    p, truth = voxels
    got = Calibration(3, bins)
    for part in (slice(0, 70), slice(70, None)):  # two people
        got.add(p[:, part], truth[part])
    assert got.top.error == pytest.approx(GOLDEN[f"top_{bins}"], abs=1e-6)
    for k in (1, 2):
        assert got.structures[k].error == pytest.approx(GOLDEN[f"structure{k}_{bins}"], abs=1e-6)


def test_curve_by_hand():
    got = Reliability(bins=4)
    got.add(np.array([0.0, 0.2, 0.6, 0.7, 1.0]), np.array([False, True, True, False, True]))
    curve = got.curve()
    np.testing.assert_array_equal(curve["n"], [2, 0, 2, 1])
    np.testing.assert_allclose(curve["confidence"], [0.1, np.nan, 0.65, 1])
    np.testing.assert_allclose(curve["right"], [0.5, np.nan, 0.5, 1])
    assert got.error == pytest.approx((2 * 0.4 + 2 * 0.15) / 5)


def test_a_sum_is_of_all_voxels():
    rng = np.random.default_rng(0)
    sure, right = rng.random(50), rng.random(50) < 0.5
    parts = [Reliability(), Reliability(), Reliability()]
    parts[0].add(sure[:20], right[:20])
    parts[1].add(sure[20:], right[20:])
    parts[2].add(sure, right)
    both = parts[0] + parts[1]
    for name, values in parts[2].curve().items():
        np.testing.assert_allclose(both.curve()[name], values)
    assert (both.error, parts[0].n.sum()) == (pytest.approx(parts[2].error), 20)


def test_of_nothing():
    assert np.isnan(Reliability().error)


def test_air_hides_a_bad_calibration(voxels):
    """Why a band: the same structure in a larger field of view looks better."""
    p, truth = voxels
    got = Calibration(3)
    got.add(p, truth)
    near = got.top.error
    got.add(np.repeat([[1.0], [0], [0]], 20_000, 1), np.zeros(20_000, int))
    assert got.top.error < near / 50


def test_temperature_of_two_labels_is_a_slope_of_logistic_regression():
    rng = np.random.default_rng(0)
    z = rng.normal(0, 3, 5000)
    truth = (rng.random(5000) < 1 / (1 + np.exp(-z / 1.8))).astype(int)
    p = 1 / (1 + np.exp(-z))
    fit = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8).fit(z[:, None], truth)
    people = [(np.stack([1 - p, p])[:, part], truth[part]) for part in np.split(np.arange(5000), 5)]
    got = fit_temperature(iter(people))
    assert got == pytest.approx(1 / fit.coef_.item(), rel=1e-3)
    assert got == pytest.approx(1.8, rel=0.1)


def test_temperature_undoes_what_made_them_too_sure(voxels):
    """The golden voxels were made with labels drawn at a temperature of 2.2."""
    p, truth = voxels
    temperature = fit_temperature([(p, truth)])
    assert temperature == pytest.approx(2.2, rel=0.25)
    raw, scaled = Calibration(3, 10), Calibration(3, 10)
    raw.add(p, truth)
    scaled.add(apply_temperature(p, temperature), truth)
    assert scaled.top.error < raw.top.error / 2


def test_applied_temperature():
    p = np.array([[0.7], [0.2], [0.1]])
    got = apply_temperature(p, 2)
    np.testing.assert_allclose(got, np.sqrt(p) / np.sqrt(p).sum())
    np.testing.assert_allclose(apply_temperature(p, 1), p)
    two = apply_temperature(np.array([[0.1], [0.9]]), 3)[1].item()
    assert logit(two) == pytest.approx(logit(0.9) / 3)
    far_away = np.array([[1.0], [0.0]])
    np.testing.assert_array_equal(apply_temperature(far_away, 2), far_away)


def test_temperature_draws_voxels_by_its_seed(voxels):
    people = [voxels, voxels]
    assert fit_temperature(people, voxels=50) == fit_temperature(people, voxels=50)
    assert fit_temperature(people, voxels=50) != fit_temperature(people, voxels=50, seed=1)


def test_temperature_of_nothing():
    with pytest.raises(ValueError, match="got none"):
        fit_temperature([(np.zeros((2, 0)), np.zeros(0, int))])


def test_band_is_within_so_many_mm():
    truth, predicted = np.zeros((2, 12, 12, 12), int)
    truth[2, 6, 6], predicted[9, 6, 6] = 1, 2
    band = foreground_band(truth, predicted, spacing=(1, 2, 1.5), margin_mm=3)
    at = (np.indices(truth.shape).T * (1, 2, 1.5)).T  # mm
    away = [np.linalg.norm(at.T - c, axis=-1).T for c in ((2, 12, 9), (9, 12, 9))]
    np.testing.assert_array_equal(band, np.minimum(*away) <= 3)
    assert band[2, 7, 6]
    assert not band[2, 8, 6]


def test_band_of_nothing():
    assert not foreground_band(np.zeros((4, 4, 4)), spacing=(1, 1, 1)).any()
