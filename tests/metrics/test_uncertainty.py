import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vol3d.metrics.uncertainty import ErrorDetection


@pytest.fixture
def voxels():
    """Errors are likelier where uncertainty is high; it spans many orders of magnitude."""
    rng = np.random.default_rng(0)
    uncertainty = 10 ** rng.uniform(-6, 0, 2000)
    return uncertainty, rng.random(2000) < 0.5 * uncertainty**0.2


def detection_of(uncertainty, wrong):
    got = ErrorDetection()
    for u, w in zip(np.array_split(uncertainty, 3), np.array_split(wrong, 3), strict=True):
        got.add(u, w)
    return got


def test_auroc_against_sklearn(voxels):
    uncertainty, wrong = voxels
    got = detection_of(uncertainty, wrong)
    assert got.auroc == pytest.approx(roc_auc_score(wrong, uncertainty), abs=1e-4)
    ties = np.round(uncertainty, 1).astype(np.float16)  # many, and exact in float16
    assert detection_of(ties, wrong).auroc == pytest.approx(roc_auc_score(wrong, ties), abs=1e-12)


def test_area_is_the_mean_risk_over_all_numbers_taken(voxels):
    uncertainty, wrong = voxels
    uncertainty = np.unique(uncertainty.astype(np.float16))  # no ties
    wrong = wrong[: len(uncertainty)]
    got = detection_of(uncertainty, wrong)
    risks = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
    assert got.aurc == pytest.approx(risks.mean())
    coverage, risk = got.risk_coverage()
    np.testing.assert_allclose(risk, risks)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(wrong.mean())


def test_by_hand():
    """Right, right, wrong, right by rising uncertainty: risks 0, 0, 1/3, 1/4."""
    got = detection_of(np.array([0.4, 0.1, 0.3, 0.2]), np.array([False, False, True, False]))
    assert got.auroc == pytest.approx(2 / 3)
    assert got.aurc == pytest.approx((1 / 3 + 1 / 4) / 4)
    assert got.excess_aurc == pytest.approx((1 / 3 + 1 / 4) / 4 - 1 / 16)


def test_ties_are_in_any_order():
    """Two voxels alike, one of them wrong: risk at one is 0 or 1, at two it is a half."""
    got = detection_of(np.array([0.5, 0.5, 0.9]), np.array([True, False, False]))
    assert got.aurc == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    assert got.auroc == pytest.approx(1 / 4)


def test_an_ideal_map_and_one_that_says_nothing():
    wrong = np.arange(100) >= 80
    ideal = detection_of(np.arange(100) / 100, wrong)
    assert ideal.auroc == 1
    assert ideal.excess_aurc == pytest.approx(0, abs=1e-12)
    nothing = detection_of(np.full(100, 0.3), wrong)
    assert nothing.auroc == 0.5
    assert nothing.aurc == pytest.approx(0.2)


def test_all_right_has_no_auroc():
    got = detection_of(np.array([0.1, 0.2, 0.3]), np.zeros(3, bool))
    assert np.isnan(got.auroc)
    assert got.aurc == 0


def test_no_voxels():
    assert np.isnan(ErrorDetection().aurc)


@pytest.mark.parametrize("value", [-0.1, np.nan])
def test_what_is_no_uncertainty(value):
    with pytest.raises(ValueError, match="0 or more"):
        ErrorDetection().add(np.array([0.1, value]), np.array([True, False]))


def test_a_negative_zero_is_zero():
    got = detection_of(np.array([-0.0, 0.0, 0.5]), np.array([False, False, True]))
    assert got.auroc == 1
