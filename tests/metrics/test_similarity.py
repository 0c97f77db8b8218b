import pytest
import torch
from monai.metrics import MultiScaleSSIMMetric, SSIMMetric

from vol3d.metrics.similarity import Scales, ms_ssim, scales_for, ssim, ssim_map


@pytest.fixture
def pair():
    torch.manual_seed(0)
    x = torch.rand(2, 1, 16, 18, 14)
    return x, (x + 0.1 * torch.randn_like(x)).clamp(0, 1)


def test_ssim_is_monais(pair):
    x, y = pair
    expected = SSIMMetric(spatial_dims=3)(y, x).flatten()
    torch.testing.assert_close(ssim(x, y), expected)
    assert 0 < float(expected.min()) < 1


def test_map_agrees_inside_and_reaches_the_border(pair):
    x, y = pair
    full = ssim_map(x, y)
    assert full.shape == x.shape
    inside = full[:, :, 5:-5, 5:-5, 5:-5].flatten(1).mean(1)
    torch.testing.assert_close(inside, ssim(x, y), atol=1e-5, rtol=1e-5)


def test_ms_ssim_is_monais_where_the_published_window_fits():
    torch.manual_seed(0)
    x = torch.rand(1, 1, 44, 46, 44)
    y = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)
    assert scales_for((44, 46, 44)) == Scales(11, 3)
    w = [v / (0.0448 + 0.2856 + 0.3001) for v in (0.0448, 0.2856, 0.3001)]
    expected = MultiScaleSSIMMetric(spatial_dims=3, weights=w)(y, x).flatten()
    torch.testing.assert_close(ms_ssim(x, y), expected)


@pytest.mark.parametrize(
    ("shape", "scales"),
    [
        ((40, 56, 40), Scales(7, 3)),
        ((80, 112, 80), Scales(11, 3)),
        ((160, 224, 160), Scales(11, 4)),
        ((16, 16, 16), Scales(7, 2)),
        ((8, 8, 8), Scales(7, 1)),
        ((6, 9, 9), Scales(5, 1)),
    ],
)
def test_scales_hold_their_window(shape, scales):
    assert scales_for(shape) == scales
    assert sum(scales.weights) == pytest.approx(1)
    if min(shape) <= 40:
        x = torch.rand(1, 1, *shape)
        assert float(ms_ssim(x, x)) == pytest.approx(1, abs=1e-4)
        assert float(ms_ssim(x, 1 - x)) < 0.9
