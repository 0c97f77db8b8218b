"""Slab by slab is exact: output and gradients of plain torch, for every length and number of slabs."""

from itertools import product

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vol3d.nn.blocks import Down, ResBlock, Up, affine, conv3
from vol3d.nn.norm_ops import conv3d
from vol3d.nn.slab_conv import LAYOUT, Norm, slabs
from vol3d.nn.slab_inference import cut
from vol3d.nn.slab_layers import norm_conv
from vol3d.nn.slab_volume import Slabbed

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def randomised(net: nn.Module) -> nn.Module:
    """Weights that do not begin at zero or one."""
    rng = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=rng, dtype=p.dtype)
        p.data = p.data * p[0].numel() ** -0.5 if p.ndim > 1 else p.data
    return net


def randn(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def apart(x: Tensor, y: Tensor) -> float:
    """Relative distance."""
    return ((x - y).norm() / y.norm()).item()


class LastLayer(nn.Module):
    """A norm and a convolution, with or without a SiLU between."""

    def __init__(self, channels: int, is_active: bool, splits: int | None, out: int = 3) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(2, channels), nn.Conv3d(channels, out, 3, padding=1)
        self.is_active, self.splits = is_active, splits

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv.weight, self.conv.bias
        return norm_conv(x, affine(self.norm), conv, is_active=self.is_active, splits=self.splits)


def res_block(b: ResBlock, x: Tensor) -> Tensor:
    return b.shortcut(x) + b.conv2(nnf.silu(b.norm2(b.conv1(nnf.silu(b.norm1(x))))))


LAYERS = {
    "same width": (lambda s: ResBlock(4, 4, groups=2, splits=s), res_block),
    "wider": (lambda s: ResBlock(4, 6, groups=2, splits=s), res_block),
    "nothing kept": (lambda s: ResBlock(4, 8, groups=2, keep=False, splits=s), res_block),
    "up": (
        lambda s: Up(4, splits=s),
        lambda b, x: b.conv(nnf.interpolate(x, scale_factor=2.0, mode="nearest")),
    ),
    "down": (
        lambda s: Down(4, padding=0, splits=s),
        lambda b, x: b.conv(nnf.pad(x, (0, 1) * 3)),
    ),
    "last": (lambda s: LastLayer(4, True, s), lambda b, x: b.conv(nnf.silu(b.norm(x)))),
    "last, of one channel": (
        lambda s: LastLayer(4, True, s, 1),
        lambda b, x: b.conv(nnf.silu(b.norm(x))),
    ),
    "last, plain": (lambda s: LastLayer(4, False, s), lambda b, x: b.conv(b.norm(x))),
}
LENGTHS_AND_SPLITS = [*product((1, 2, 3, 5, 8), (1, 2, 3, 4, 5, 7)), (6, None)]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_output_and_gradients(name: str, dtype: torch.dtype):
    make, plain = LAYERS[name]
    for length, splits in LENGTHS_AND_SPLITS:
        if name == "down" and length == 1:
            continue  # torch's own wants a whole kernel
        layer = randomised(make(splits).to(dtype))
        x = (randn(2, 4, length, 3, 5, dtype=dtype) * 2 + 3).requires_grad_()
        of = [x, *layer.parameters()]
        expected = plain(layer, x)
        g = randn(*expected.shape, dtype=dtype)
        y = layer(x)
        pairs = zip(
            (y, *torch.autograd.grad(y, of, g)),
            (expected, *torch.autograd.grad(expected, of, g)),
            strict=True,
        )
        for ours, theirs in pairs:
            assert apart(ours, theirs) < TOLERANCE[dtype], (length, splits)
        with torch.inference_mode():
            assert apart(layer(x), expected) < TOLERANCE[dtype], (length, splits)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_in_pieces(name: str, dtype: torch.dtype):
    """However the input was cut, in inference, where layers write over their input."""
    make, plain = LAYERS[name]
    for length, splits, mine in product((1, 2, 5, 8), (1, 2, 3, 8), (1, 3, None)):
        if name == "down" and length == 1:
            continue
        layer = randomised(make(mine).to(dtype))
        x = randn(1, 4, length, 3, 5, dtype=dtype) * 2 + 3
        with torch.inference_mode():
            expected, y = plain(layer, x), layer(cut(x, splits))
            y = y.whole() if isinstance(y, Slabbed) else y
        assert apart(y, expected) < TOLERANCE[dtype], (length, splits, mine)


@pytest.mark.parametrize("splits", [1, 2, 5, None])
def test_doubling_a_grid_that_is_not_small(splits: int | None):
    """Where it is 8 convolutions of 2 x 2 x 2."""
    layer = randomised(Up(3, splits=splits).double())
    x = randn(2, 3, 7, 12, 13, dtype=torch.float64).requires_grad_()
    of = [x, *layer.parameters()]
    expected = layer.conv(nnf.interpolate(x, scale_factor=2.0, mode="nearest"))
    y, g = layer(x), randn(*expected.shape, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(out, of, g) for out in (y, expected))
    for a, b in zip((y, *ours), (expected, *theirs), strict=True):
        assert apart(a, b) < 1e-12
    with torch.inference_mode():
        for cuts in (1, 3, 7):
            slabbed = [layer(cut(image.clone(), cuts)).whole() for image in x.split(1)]
            assert apart(torch.cat(slabbed), expected) < 1e-12


def test_statistics_of_voxels_far_from_zero():
    """Two passes and Chan's merging: float32 where sums of squares would have nothing left."""
    x = randn(1, 4, 40, 8, 8, dtype=torch.float64) + 1000
    ones = torch.ones(4)
    var, mean = (t.repeat_interleave(2) for t in torch.var_mean(x.view(2, -1), 1, correction=0))
    for splits in (1, 3, 40):
        norm = Norm.of(cut(x.float(), splits), ones, ones, 2, 1e-6)
        told_mean, told_var, _ = norm.stats.double()
        assert apart(told_var, var) < 1e-4
        assert apart(told_mean, mean) < 1e-6


def test_bf16_voxels_keep_float32_where_it_matters():
    layer = randomised(ResBlock(16, 16, groups=4, splits=3))
    x = randn(1, 16, 8, 8, 8, dtype=torch.float32)
    y = layer(x)
    (exact,) = torch.autograd.grad(y.square().sum(), layer.conv1.weight)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    (rounded,) = torch.autograd.grad(y.float().square().sum(), layer.conv1.weight)
    assert rounded.dtype == torch.float32
    assert apart(rounded, exact) < 0.03


def test_recomputing_changes_no_bit():
    x = randn(1, 8, 6, 4, 4, dtype=torch.float32).requires_grad_()
    kept, lean = (randomised(ResBlock(8, 8, groups=4, keep=keep)) for keep in (True, False))
    a, b = (
        torch.autograd.grad(net(x).square().sum(), [x, *net.parameters()]) for net in (kept, lean)
    )
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("planes", [1, 2, 7, 160])
@pytest.mark.parametrize("splits", [1, 2, 3, 8, 500, None])
def test_slabs_cover_an_axis_evenly(planes: int, splits: int | None):
    cuts = slabs(planes, 2**20, splits, "cpu")
    assert [i for a, b in cuts for i in range(a, b)] == list(range(planes))
    assert max(b - a for a, b in cuts) - min(b - a for a, b in cuts) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("splits", [1, 3])
def test_weight_gradients_of_thin_volumes_in_bf16(splits: int):
    """Where oneDNN's own gradient of a 3-D weight is not a number (torch 2.13, AMX)."""
    x = randn(1, 64, 3, 56, 40, dtype=torch.float32)
    for layer in (ResBlock(64, 64, groups=8, splits=splits), LastLayer(64, True, splits, 1)):
        weight = randomised(layer).conv1.weight if hasattr(layer, "conv1") else layer.conv.weight
        (exact,) = torch.autograd.grad(layer(x).square().sum(), weight)
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        (rounded,) = torch.autograd.grad(y.float().square().sum(), weight)
        assert apart(rounded, exact) < 0.03


@pytest.mark.parametrize("shape", [(4, 6, 10), (24, 20, 12)])
def test_wide_and_small_convolutions_are_convolutions(shape: tuple):
    """Over 256 channels out in parts, few voxels as one product: the same numbers."""
    conv = randomised(conv3(8, 512)).to(memory_format=torch.channels_last_3d)
    x = randn(1, 8, *shape, dtype=torch.float32)
    assert apart(conv(x), nnf.conv3d(x, conv.weight, conv.bias, padding=1)) < 1e-5


@pytest.mark.parametrize("stride", [1, 2])
def test_a_small_image_in_float32_is_convolved_by_onednn(stride: int):
    """The same numbers as in float64, in the layout of the layers; torch's loop gives another."""
    x = randn(1, 32, 12, 9, 10, dtype=torch.float64).to(memory_format=LAYOUT)
    weight, bias = randn(8, 32, 3, 3, 3, dtype=torch.float64), randn(8, dtype=torch.float64)
    single = [t.float() for t in (x, weight, bias)]
    y = conv3d(*single, stride, pad=1)
    assert apart(y, nnf.conv3d(x, weight, bias, stride, (0, 1, 1))) < 1e-5
    if torch.backends.mkldnn.is_available():
        assert y.is_contiguous(memory_format=LAYOUT)
    with FakeTensorMode() as mode:
        without_data = conv3d(*map(mode.from_tensor, single), stride, pad=1)
    assert without_data.shape == y.shape


@pytest.mark.slow
def test_more_than_two_to_the_31_elements():
    """The end of a volume of 2.2e9 elements is what it is alone, without what lies before."""
    x = torch.zeros(1, 8, 2100, 360, 364, dtype=torch.bfloat16).to(memory_format=LAYOUT)
    assert x.numel() > 2**31
    x[:, :, -4:] = randn(1, 8, 4, 360, 364, dtype=torch.float32)
    layer = randomised(LastLayer(8, True, None, 1)).to(torch.bfloat16)
    with torch.inference_mode():
        y = layer(x)[:, :, -2:]
        norm = Norm.of(cut(x), layer.norm.weight, layer.norm.bias, 2, layer.norm.eps)
        mean, var, gamma, beta = (
            t.view(1, -1, 1, 1, 1) for t in (*norm.stats[:2], norm.gamma, norm.beta)
        )
        end = nnf.silu((x[:, :, -4:].float() - mean) / (var + norm.eps).sqrt() * gamma + beta)
        weight, bias = layer.conv.weight.float(), layer.conv.bias.float()
        expected = nnf.conv3d(end, weight, bias, padding=1)[:, :, -2:]
    assert apart(y, expected) < 0.01


@pytest.mark.gpu
@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("name", LAYERS)
def test_on_a_gpu(name: str, device: torch.device):
    make, plain = LAYERS[name]
    for length, splits in ((8, 3), (7, None)):
        layer = randomised(make(splits)).to(device)
        x = randn(2, 4, length, 6, 10, dtype=torch.float32).to(device).requires_grad_()
        of = [x, *layer.parameters()]
        expected = plain(layer, x)
        exact = torch.autograd.grad(expected.square().sum(), of)
        for precision, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.05)):
            with torch.autocast(device.type, precision, enabled=precision is torch.bfloat16):
                y = layer(x)
            assert apart(y.float(), expected) < tolerance
            for ours, theirs in zip(
                torch.autograd.grad(y.float().square().sum(), of), exact, strict=True
            ):
                assert apart(ours.float(), theirs) < tolerance
