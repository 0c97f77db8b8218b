import pytest
import torch
import torch.nn.functional as nnf

from vol3d.metrics.block_average import block_average, equal_values_factor


def test_of_blocks_is_exact():
    small = torch.rand(1, 3, 4, 2)
    x = small.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(block_average(x, 4), x)


def test_a_ramp_comes_back_better_by_interpolation():
    x = torch.linspace(0, 1, 16).view(1, 16, 1, 1).expand(1, 16, 4, 4).contiguous()
    y = block_average(x, 4)
    torch.testing.assert_close(y[:, 2:-2], x[:, 2:-2])  # exact between the outer blocks' centres


def test_edge_blocks_average_what_there_is():
    x = torch.zeros(1, 5, 4, 4)
    x[:, 4] = 1  # the second block along X holds this voxel only
    torch.testing.assert_close(block_average(x, 4), x)


def test_factor_one_keeps_everything():
    x = torch.rand(1, 5, 6, 7)
    torch.testing.assert_close(block_average(x, 1), x)


def test_the_mask_says_where_the_error_counts():
    ramp = torch.linspace(0, 1, 16).view(1, 16, 1, 1).expand(1, 16, 8, 8).contiguous()
    steps = ramp.clone()
    steps[:, :, :, 4:] = (torch.arange(16) // 4 % 2).view(1, 16, 1, 1) * 9.0
    mask = torch.zeros_like(steps, dtype=torch.bool)
    mask[..., 4:] = True
    torch.testing.assert_close(block_average(steps, 4, mask)[mask], steps[mask])  # repeated


@pytest.mark.parametrize("shape", [(10, 12, 10), (9, 11, 7)])
def test_a_factor_between_keeps_shape_and_lies_between(shape):
    torch.manual_seed(0)
    x = nnf.avg_pool3d(torch.rand(1, *shape), 3, 1, padding=1)  # smooth, as anatomy is
    apart = [float((block_average(x, f) - x).square().mean()) for f in (1, 1.5, 2.5, 4)]
    assert apart == sorted(apart)
    assert apart[0] < apart[1] < apart[-1]


def test_factor_below_one_is_refused():
    with pytest.raises(ValueError, match="1 or more"):
        block_average(torch.rand(1, 4, 4, 4), 0.5)


def test_equal_values():
    assert equal_values_factor(4, 8) == pytest.approx(2.0)  # 8/64 per voxel = 1/8 = 1/2^3
    assert equal_values_factor(4, 1) == pytest.approx(4.0)
    assert equal_values_factor(4, 128) == 1.0  # more numbers than voxels: nothing is lost
