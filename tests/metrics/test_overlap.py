import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from vol3d.metrics.overlap import overlap

SPACING = (1.0, 1.5, 2.0)


@pytest.fixture
def pair():
    """Two blobs each, slightly different."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(24, 24, 24)), 3)
    other = smooth + 0.3 * ndimage.gaussian_filter(rng.normal(size=(24, 24, 24)), 2)
    return tuple(np.digitize(x, [0.02, 0.06]).astype(np.uint8) for x in (other, smooth))


def test_dice_is_simpleitks(pair):
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(*(sitk.GetImageFromArray(x) for x in pair))
    got = overlap(*pair, 3, SPACING)
    assert got["dice"] == pytest.approx([measure.GetDiceCoefficient(k) for k in (1, 2)])


def test_surface_distance_of_cubes_that_are_moved():
    truth, predicted = np.zeros((2, 20, 20, 20), np.uint8)
    truth[5:10, 5:10, 5:10] = predicted[7:12, 5:10, 5:10] = 1
    for spacing in (SPACING, (3.0, 1.0, 1.0)):
        got = overlap(predicted, truth, 2, spacing)
        assert got["hd95_mm"] == [2 * spacing[0]]
        assert got["dice"] == [pytest.approx(0.6)]


def test_a_slice_has_a_contour():
    """Eroded in 3-D a square would be all surface, and the distance 0.05 mm."""
    truth, predicted = np.zeros((2, 80, 80, 1), np.uint8)
    truth[20:60, 20:60] = predicted[22:62, 20:60] = 1
    assert overlap(predicted, truth, 2, (1.0, 1.5, 4.0))["hd95_mm"] == [2]
    turned = [mask.transpose(2, 0, 1) for mask in (predicted, truth)]
    assert overlap(*turned, 2, (4.0, 1.0, 1.5))["hd95_mm"] == [2]


def test_surface_distance_is_symmetric_and_blind_to_air(pair):
    one, other = overlap(*pair, 3, SPACING), overlap(*pair[::-1], 3, SPACING)
    assert one == other
    assert overlap(*(np.pad(x, 5) for x in pair), 3, SPACING)["dice"] == one["dice"]


def test_structures_that_one_has_or_none():
    truth, predicted = np.zeros((2, 8, 8, 8), np.uint8)
    truth[2:4, 2:4, 2:4] = 1
    got = overlap(predicted, truth, 3, SPACING)
    assert got["dice"] == [0, 1]
    assert np.isnan(got["hd95_mm"]).all()
