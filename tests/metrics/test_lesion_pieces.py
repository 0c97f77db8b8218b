import numpy as np
import pytest

from vol3d.metrics.lesions import find_lesions, lesion_detection, pieces_of
from vol3d.volume import Grid

SHAPE = (10, 10, 10)


@pytest.fixture
def consensus():
    """A large lesion of 2 x 2 x 2 voxels, and one of two voxels that share a corner."""
    mask = np.zeros(SHAPE, bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    mask[5:7, 5:7, 5:7] = True
    return mask


def test_pieces_from_the_largest(consensus):
    pieces, n = pieces_of(consensus)
    assert n == 2
    assert pieces[5, 5, 5] == 1
    assert pieces[0, 0, 0] == pieces[1, 1, 1] == 2


def test_each_lesion_by_hand(consensus):
    affine = np.array([[0, -2.0, 0, 10], [1, 0, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])
    members = np.zeros((4, *SHAPE), bool)
    members[:3, 5, 5, 5] = True  # three touch the large one
    members[0, 1, 1, 1] = True  # one of them the small one
    members[3, 9, 9, 9] = True  # what no lesion of the consensus has
    mean = np.where(np.indices(SHAPE)[0] < 1, 0.6, 0.8)
    (large, small), pieces = find_lesions(consensus, mean, iter(members), Grid(SHAPE, affine))
    assert large.number == 1
    assert large.volume_ml == pytest.approx(8 * 6 / 1000)
    assert large.centre_mm == pytest.approx((10 - 2 * 5.5, 20 + 5.5, 30 + 3 * 5.5))
    assert (large.confidence, small.confidence) == (0.75, 0.25)
    assert large.mean_probability == pytest.approx(0.8)
    assert small.mean_probability == pytest.approx(0.7)
    assert small.centre_mm == pytest.approx((10 - 2 * 0.5, 20.5, 31.5))
    assert (pieces == 2).sum() == 2


def test_no_lesion():
    none = np.zeros(SHAPE, bool)
    lesions, pieces = find_lesions(none, none.astype(float), [none], Grid(SHAPE, np.eye(4)))
    assert lesions == []
    assert not pieces.any()


def test_found_and_missed(consensus):
    predicted = np.zeros(SHAPE, bool)
    predicted[6:9, 6, 6] = True  # touches the large one
    predicted[0, 9, 9] = predicted[9, 0, 9] = True  # these touch nothing
    got = lesion_detection(predicted, consensus)
    assert got == {
        "sensitivity": 1 / 2,
        "precision": pytest.approx(1 / 3),
        "n_true": 2,
        "n_predicted": 3,
    }


def test_one_prediction_over_two_lesions(consensus):
    got = lesion_detection(np.ones(SHAPE, bool), consensus)
    assert (got["sensitivity"], got["precision"]) == (1, 1)


def test_shares_of_none(consensus):
    none = np.zeros(SHAPE, bool)
    got = lesion_detection(none, consensus)
    assert got["sensitivity"] == 0
    assert np.isnan(got["precision"])
    assert np.isnan(lesion_detection(consensus, none)["sensitivity"])
