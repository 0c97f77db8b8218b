"""The losses of registration, against MONAI and closed forms."""

import pytest
import torch
from monai.losses import DiceLoss, LocalNormalizedCrossCorrelationLoss

from vol3d.nn.registration_losses import (
    box_sum,
    folding_penalty,
    local_ncc,
    soft_dice_loss,
    unevenness,
)


@pytest.mark.parametrize("window", [3, 7, 9])
def test_local_correlation_is_monais(window: int):
    a, b = torch.rand(2, 2, 1, 20, 17, 12)
    a[:, :, :8] = 0  # where nothing is, nothing correlates
    theirs = LocalNormalizedCrossCorrelationLoss(spatial_dims=3, kernel_size=window)(a, b)
    ncc = local_ncc(a, b, window)
    torch.testing.assert_close(-ncc.mean(), theirs)
    assert ncc[:, :, : 8 - window // 2].abs().max() == 0


def test_local_correlation_knows_no_brightness():
    a = torch.rand(1, 1, 12, 12, 12)
    ncc = local_ncc(a, 3 - 2 * a, 5)[..., 2:-2, 2:-2, 2:-2]  # windows of which nothing is outside
    torch.testing.assert_close(ncc, torch.ones_like(ncc), atol=1e-3, rtol=0)


def test_sums_in_a_box():
    x = torch.rand(1, 2, 9, 8, 11, dtype=torch.float64)
    kernel = torch.ones(1, 1, 7, 7, 7, dtype=x.dtype)
    expected = torch.nn.functional.conv3d(x.transpose(0, 1), kernel, padding=3).transpose(0, 1)
    torch.testing.assert_close(box_sum(x, 7), expected)


def test_unevenness_and_folding_of_a_linear_field():
    """u = s x along one axis: differences are s, and det J = 1 + s."""
    x = torch.arange(6.0).view(1, 1, 6, 1, 1).expand(1, 1, 6, 5, 4)
    for s, det in ((0.5, 1.5), (-1.5, -0.5)):
        u = torch.cat([s * x, 0 * x, 0 * x], 1)
        assert unevenness(u).item() == pytest.approx(s**2 / 9)
        assert folding_penalty(u).item() == pytest.approx(max(-det, 0))


def test_overlap_of_shares_is_monais():
    a, b = torch.rand(2, 2, 3, 6, 5, 4)
    theirs = DiceLoss(squared_pred=True, smooth_nr=0, smooth_dr=0)(a, b)
    torch.testing.assert_close(soft_dice_loss(a, b), theirs)
    nobody = torch.zeros(2, 1, 6, 5, 4)
    torch.testing.assert_close(
        soft_dice_loss(torch.cat([a, nobody], 1), torch.cat([b, nobody], 1)), theirs
    )
