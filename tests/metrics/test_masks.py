import numpy as np
import pytest

from vol3d.metrics.masks import Masks, bounding_box

SHAPE = (5, 6, 7)  # 210 voxels: no whole number of bytes


@pytest.fixture
def masks():
    rng = np.random.default_rng(0)
    return rng.random((4, *SHAPE)) < 0.3


def test_what_is_packed_comes_out_again(masks):
    packed = Masks.of(iter(masks))
    assert len(packed) == 4
    np.testing.assert_array_equal(np.stack(list(packed)), masks)
    np.testing.assert_array_equal(packed.volumes, masks.sum((1, 2, 3)))
    np.testing.assert_array_equal(packed.union, masks.any(0))
    assert packed.bits.nbytes == 4 * 27


def test_overlap_is_the_product_of_masks(masks):
    flat = masks.reshape(4, -1).astype(int)
    got = Masks.of(masks[:3]).overlap(Masks.of(masks))
    np.testing.assert_array_equal(got, flat[:3] @ flat.T)


def test_masks_of_nothing_and_of_two_shapes():
    with pytest.raises(ValueError, match="one or more"):
        Masks.of([])
    with pytest.raises(ValueError, match="one shape"):
        Masks.of([np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool)])


def test_bounding_box():
    mask = np.zeros((6, 6, 6), bool)
    mask[1, 2, 3] = mask[4, 2, 5] = True
    assert bounding_box(mask) == (slice(1, 5), slice(2, 3), slice(3, 6))
    wider = bounding_box(mask, (2, 1, 1))
    assert mask[wider].shape == (6, 3, 4)  # cut at the volume's border
    with pytest.raises(ValueError, match="empty"):
        bounding_box(mask & False)
