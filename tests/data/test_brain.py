"""The brain of an image that went through an autoencoder; Otsu's threshold is ITK's."""

import numpy as np
import SimpleITK as sitk

from vol3d.data.brain import LEVELS, brain_in, otsu, overlaps
from vol3d.volume import Volume


def blurred_ball() -> tuple[np.ndarray, np.ndarray]:
    """A ball of 0.5 with a soft edge, in a haze, and another speck; and where the ball is."""
    rng = np.random.default_rng(0)
    far = np.linalg.norm(np.indices((24, 24, 24)) - 11.5, axis=0)
    x = 0.5 / (1 + np.exp(12 * (far - 8))) + 0.03 * rng.random(far.shape)
    x[1, 1, 1] = 0.5  # a speck
    x[12, 12, 12] = 0  # a hole
    return x.astype(np.float32), far < 8


def test_the_brain_is_one_piece_without_holes_and_without_the_haze():
    x, ball = blurred_ball()
    found = brain_in(Volume(x, np.eye(4))).data
    assert 2 * (found & ball).sum() / (found.sum() + ball.sum()) > 0.95
    assert found[12, 12, 12]
    assert not found[1, 1, 1]


def test_where_a_brain_ends_is_measured():
    x, ball = blurred_ball()
    x[1, 1, 1] = 0
    by_level = overlaps(ball, x)
    for i in (9, 18):  # as if each was tried
        found = brain_in(Volume(x, np.eye(4)), LEVELS[i]).data
        dice = 2 * (found & ball).sum() / (found.sum() + ball.sum())
        assert abs(by_level[i] - dice) < 1e-3
    assert by_level.max() > 0.97


def test_the_threshold_is_that_of_itk():
    x, _ = blurred_ball()
    itk = sitk.OtsuThresholdImageFilter()
    itk.SetNumberOfHistogramBins(256)
    itk.Execute(sitk.GetImageFromArray(x))
    assert abs(otsu(x) - itk.GetThreshold()) < 2 * np.ptp(x) / 256


def test_where_there_is_nothing_there_is_no_brain():
    assert not brain_in(Volume(np.zeros((4, 4, 4), np.float32), np.eye(4))).data.any()
