"""One Dice for all, masks of nothing included, and that of SimpleITK where there is something."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from vol3d.data.dice import dice, dice_of_counts


def test_it_is_simpleitks():
    a, b = np.random.default_rng(0).random((2, 9, 8, 7)) < 0.4
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(*(sitk.GetImageFromArray(m.astype(np.uint8)) for m in (a, b)))
    assert dice(a, b) == pytest.approx(measure.GetDiceCoefficient(1))
    assert dice(torch.from_numpy(a), torch.from_numpy(b)) == dice(a, b)


def test_nothing_and_nothing_agree_and_nothing_and_something_do_not():
    nothing, something = np.zeros((2, 4, 4, 4), bool)
    something[0] = True
    assert dice(nothing, nothing) == 1
    assert dice(something, nothing) == dice(nothing, something) == 0
    assert dice_of_counts(np.array([0, 4, 4]), np.array([0, 0, 4]), 0).tolist() == [1, 0, 0]
