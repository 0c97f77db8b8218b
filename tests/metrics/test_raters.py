import itertools

import numpy as np
import pytest

from vol3d.metrics.masks import Masks
from vol3d.metrics.raters import (
    Overlaps,
    against_raters,
    collective_insight,
    combined_sensitivity,
    diversity_agreement,
    energy_distance,
    matched_iou,
    maximum_dice,
    volume_variances,
)


def masks_of(*rows):
    """Masks [8, 1, 1] from strings such as '11100000'."""
    return Masks.of(np.array([c == "1" for c in row]).reshape(8, 1, 1) for row in rows)


A, B, EMPTY = "11110000", "00111100", "00000000"  # A and B: IoU 2/6, Dice 1/2


def counted(members, raters):
    return Overlaps.of(masks_of(*members), masks_of(*raters))


def test_energy_distance_by_hand():
    assert energy_distance(counted([A, B], [A, B])) == pytest.approx(0, abs=1e-12)
    # One member against two raters: 2 (0 + 2/3) / 2 - 0 - (0 + 2/3 + 2/3 + 0) / 4 = 1/3
    assert energy_distance(counted([A], [A, B])) == pytest.approx(1 / 3)
    # Nothing drawn against A: 2 x 1 - 0 - 0
    assert energy_distance(counted([EMPTY], [A])) == 2
    assert energy_distance(counted([EMPTY], [EMPTY, EMPTY])) == 0


def test_energy_distance_is_one_of_distributions():
    """Repeating every member changes nothing, and it is never below 0."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = rng.random((7, 4, 4, 4)) < rng.random((7, 1, 1, 1))
        members, raters = Masks.of(drawn[:4]), Masks.of(drawn[4:])
        once = energy_distance(Overlaps.of(members, raters))
        twice = Masks.of([*drawn[:4], *drawn[:4]])
        assert once >= 0
        assert energy_distance(Overlaps.of(twice, raters)) == pytest.approx(once)


def test_matched_iou_by_hand():
    assert matched_iou(counted([B, A], [A, B])) == 1
    # Two members A against A and B: one of them is matched with B.
    assert matched_iou(counted([A, A], [A, B])) == pytest.approx((1 + 1 / 3) / 2)
    # Three members and two raters, six of each: of A x 4 and B x 2 against 3 and 3, five match.
    assert matched_iou(counted([A, A, B], [A, B])) == pytest.approx((5 + 1 / 3) / 6)


def test_matched_iou_is_the_best_of_all_matchings():
    rng = np.random.default_rng(1)
    drawn = rng.random((8, 4, 4, 4)) < 0.5
    o = Overlaps.of(Masks.of(drawn[:4]), Masks.of(drawn[4:]))
    iou = [[(a & b).sum() / (a | b).sum() for b in drawn[4:]] for a in drawn[:4]]
    best = max(
        sum(iou[i][j] for i, j in enumerate(p)) / 4 for p in itertools.permutations(range(4))
    )
    assert matched_iou(o) == pytest.approx(best)


def test_combined_sensitivity_by_hand():
    # Raters together drew six voxels, of which A has four.
    assert combined_sensitivity(counted([A], [A, B])) == pytest.approx(4 / 6)
    assert combined_sensitivity(counted([A, B], [A])) == 1
    assert combined_sensitivity(counted([EMPTY], [EMPTY])) == 1


def test_maximum_dice_by_hand():
    assert maximum_dice(counted([A, EMPTY], [A, B])) == pytest.approx((1 + 1 / 2) / 2)
    assert maximum_dice(counted([A, EMPTY], [EMPTY])) == 1
    assert maximum_dice(counted([A], [EMPTY])) == 0


def test_diversity_agreement_by_hand():
    """Of six voxels A and B differ in four, by +1 and -1: their variance is 4/6."""
    assert diversity_agreement(counted([A, B], [A, B])) == 1
    assert diversity_agreement(counted([A, A], [A, B])) == pytest.approx(1 - (4 / 6 + 4 / 6) / 2)
    # Three members have pairs (A, A), (A, B), (A, B): only the smallest variance is off.
    assert diversity_agreement(counted([A, A, B], [A, B])) == pytest.approx(1 - 4 / 6 / 2)
    # Nothing against A: the difference is 1 in all four voxels, so it has no variance ...
    assert diversity_agreement(counted([EMPTY, A], [A, A])) == 1
    # ... and of six voxels it is 1 in four: 4/6 - (4/6)^2.
    got = diversity_agreement(counted([EMPTY, A], [A, B]))
    assert got == pytest.approx(1 - (4 / 6 - (4 / 6 - 16 / 36)))
    assert diversity_agreement(counted([EMPTY], [EMPTY])) == 1


def test_diversity_agreement_is_of_the_difference():
    rng = np.random.default_rng(2)
    drawn = rng.random((6, 4, 4, 4)) < 0.4
    where = drawn.any(0)

    def variances(masks):
        pairs = itertools.combinations([m[where].astype(int) for m in masks], 2)
        return [np.var(a - b) for a, b in pairs]

    ours, theirs = variances(drawn[:3]), variances(drawn[3:])
    expected = 1 - (abs(max(ours) - max(theirs)) + abs(min(ours) - min(theirs))) / 2
    got = diversity_agreement(Overlaps.of(Masks.of(drawn[:3]), Masks.of(drawn[3:])))
    assert got == pytest.approx(expected)


def test_air_around_changes_nothing():
    rng = np.random.default_rng(3)
    drawn = rng.random((5, 4, 4, 4)) < 0.4
    alone = against_raters(Masks.of(drawn[:3]), Masks.of(drawn[3:]))
    in_air = [np.pad(m, 6) for m in drawn]
    assert against_raters(Masks.of(in_air[:3]), Masks.of(in_air[3:])) == alone


def test_collective_insight_by_hand():
    assert collective_insight(1, 1, 1) == 1
    assert collective_insight(1, 0.5, 0.5) == pytest.approx(3 * 0.25 / 2)
    assert collective_insight(0, 0, 0) == 0


def test_variances_of_volumes():
    assert volume_variances(np.array([1, 3]), np.array([0, 4])) == pytest.approx((2, 8))
    assert volume_variances(np.array([2, 2, 2]), np.array([4, 4])) == (0, 0)
    assert np.isnan(volume_variances(np.array([1, 3]), np.array([4]))).all()


def test_all_measures_together():
    same = against_raters(masks_of(A, B), masks_of(B, A))
    assert same.pop("ged_squared") == pytest.approx(0, abs=1e-12)
    assert (
        same.pop("members_variance") == same.pop("raters_variance") == 0
    )  # A and B are of one size
    assert set(same.values()) == {1.0}
    other = against_raters(masks_of(A, B), masks_of(B, "11100000", EMPTY, A))
    assert other.pop("ged_squared") > 0.1
    assert other.pop("members_variance") == 0
    assert other.pop("raters_variance") > 1
    assert other.pop("combined_sensitivity") == 1
    assert max(other.values()) < 1
