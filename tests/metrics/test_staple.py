import numpy as np
import pytest
import SimpleITK as sitk

from vol3d.metrics.ensemble import Ensemble
from vol3d.metrics.masks import Masks
from vol3d.metrics.staple import staple

SHAPE = (20, 20, 20)


@pytest.fixture
def raters():
    """Five raters of one cube with errors of their own; the last one also sees a second cube."""
    rng = np.random.default_rng(0)
    truth = np.zeros(SHAPE, bool)
    truth[6:12, 6:12, 6:12] = True
    near = np.zeros(SHAPE, bool)
    near[5:13, 5:13, 5:13] = True
    masks = [truth ^ (near & (rng.random(SHAPE) < error)) for error in (0.05, 0.1, 0.1, 0.15, 0.2)]
    masks[4][5:8, 5:8, 12] = True
    return truth, masks


def test_is_simpleitks_within_the_box(raters):
    _, masks = raters
    got = staple(Masks.of(masks))
    images = [sitk.GetImageFromArray(m[4:14, 4:14, 4:14].astype(np.uint8)) for m in masks]
    expected = sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0, 1.0, 200))
    inside = np.s_[5:13, 5:13, 5:13]
    np.testing.assert_allclose(got.probability[inside], expected[1:-1, 1:-1, 1:-1], atol=1e-6)
    assert got.probability.sum() == pytest.approx(got.probability[inside].sum())


def test_air_around_changes_nothing(raters):
    _, masks = raters
    alone = staple(Masks.of(masks))
    in_air = staple(Masks.of(np.pad(m, 15) for m in masks))
    np.testing.assert_array_equal(in_air.probability[15:-15, 15:-15, 15:-15], alone.probability)
    np.testing.assert_array_equal(in_air.specificity, alone.specificity)


def test_weighs_raters_by_their_errors(raters):
    truth, masks = raters
    got = staple(Masks.of(masks))
    assert ((got.probability >= 0.5) != truth).sum() <= min((m != truth).sum() for m in masks)
    assert got.sensitivity[0] > got.sensitivity[4]
    assert got.specificity[0] > got.specificity[4]


def test_all_agree_up_to_the_borders():
    full = np.ones((3, 3, 3), bool)
    assert (staple(Masks.of([full, full])).probability == 1).all()


def test_nobody_sees_anything():
    got = staple(Masks.of([np.zeros(SHAPE, bool)] * 3))
    assert not got.probability.any()
    assert np.isnan(got.sensitivity).all()


def test_consensus_of_an_ensemble_structure_by_structure(raters):
    """Two structures side by side, of which each voxel can have one."""
    truth, masks = raters
    ensemble = Ensemble(3, SHAPE)
    for mask in masks:
        label_map = np.where(mask, 1, 0)
        label_map[13:18, 13:18, 13:18] = 2
        ensemble.add(np.eye(3)[label_map].transpose(3, 0, 1, 2))
    got = ensemble.staple()
    assert got.dtype == np.uint8
    assert (got[13:18, 13:18, 13:18] == 2).all()
    assert (got == 2).sum() == 125
    np.testing.assert_array_equal(got == 1, staple(Masks.of(masks)).probability >= 0.5)
    assert (got == 0).sum() > 7000
    assert truth[got == 1].mean() > 0.95
