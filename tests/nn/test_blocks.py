"""Layers against torch's own, in odd shapes, and in the layout where convolutions are fast."""

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from vol3d.nn.attention import Attention, AttentionBlock, TransformerBlock
from vol3d.nn.blocks import Down, ResBlock, SteeredBlock, Up, conv3, double, halve

CHANNELS_LAST = torch.channels_last_3d


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_attention_equals_torch_multihead():
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    ours = Attention(12, head_channels=4)
    with torch.no_grad():
        weights = theirs.in_proj_weight.chunk(3)
        for linear, weight in zip((ours.to_q, ours.to_k, ours.to_v), weights, strict=True):
            linear.weight.copy_(weight)
            linear.bias.zero_()
        ours.out_proj.load_state_dict(theirs.out_proj.state_dict())
    x = randn(2, 7, 12)
    assert torch.allclose(ours(x), theirs(x, x, x, need_weights=False)[0], atol=1e-6)


def test_adaptive_norm_scales_and_shifts():
    block = SteeredBlock(4, 4, groups=2, emb_dim=3, adaptive=True)
    nn.init.normal_(block.conv2.weight)
    x, emb = randn(1, 4, 3, 4, 5), randn(1, 3)
    scale, shift = block.emb(nnf.silu(emb))[:, :, None, None, None].chunk(2, dim=1)
    h = block.norm2(block.conv1(nnf.silu(block.norm1(x)))) * (1 + scale) + shift
    torch.testing.assert_close(block(x, emb), x + block.conv2(nnf.silu(h)), atol=1e-4, rtol=1e-5)


def test_a_block_that_starts_at_zero_is_the_identity():
    x, emb = randn(1, 4, 3, 4, 5), randn(1, 3)
    assert torch.equal(SteeredBlock(4, 4, groups=2, emb_dim=3, adaptive=True)(x, emb), x)
    assert torch.equal(TransformerBlock(4, groups=2, token_dim=3)(x, randn(1, 2, 3)), x)


def test_halve_is_average_pooling():
    x = randn(1, 3, 4, 6, 8)
    assert torch.allclose(halve(x), nnf.avg_pool3d(x, 2), atol=1e-6)
    x = randn(1, 3, 5, 7, 4)  # what is outside does not count
    assert torch.allclose(halve(x), nnf.avg_pool3d(x, 2, ceil_mode=True), atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 6, 8), (5, 7, 4), (1, 3, 2)])
def test_double_returns_to_the_size_before(shape: tuple):
    x = randn(1, 2, *shape)
    assert double(halve(x), x).shape == x.shape
    assert double(Down(2)(x), x).shape == x.shape


BLOCKS = {
    "res": ResBlock(8, 16, groups=4),
    "steered": SteeredBlock(8, 16, groups=4, emb_dim=6, adaptive=True),
    "down": SteeredBlock(8, 8, groups=4, emb_dim=6, adaptive=False, resample="down"),
    "up": SteeredBlock(8, 8, groups=4, emb_dim=6, adaptive=True, resample="up"),
    "attention": AttentionBlock(8, groups=4, head_channels=4),
    "Down": Down(8),
    "Up": Up(8),
}


@pytest.mark.parametrize("shape", [(6, 4, 8), (5, 3, 7)])
@pytest.mark.parametrize("block", BLOCKS.values(), ids=list(BLOCKS))
def test_channels_last_stays_in_bf16(block: nn.Module, shape: tuple):
    block.to(memory_format=CHANNELS_LAST)
    x = randn(2, 8, *shape).contiguous(memory_format=CHANNELS_LAST)
    emb = [randn(2, 6)] if isinstance(block, SteeredBlock) else []
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x.bfloat16(), *emb)
    assert y.dtype == torch.bfloat16
    # Below AVX-512 torch has no bf16 convolutions in this layout, and auto never is bf16.
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert y.is_contiguous(memory_format=CHANNELS_LAST)
    with torch.no_grad():
        assert torch.allclose(y.float(), block(x, *emb), atol=0.1)


@pytest.mark.parametrize(
    "shape", [(2, 4, 9, 8, 1), (2, 4, 1, 9, 8), (2, 4, 9, 1, 8), (2, 4, 7, 1, 1)]
)
@pytest.mark.parametrize("stride", [1, 2])
def test_a_slice_is_convolved_in_two_dimensions(shape: tuple[int, ...], stride: int):
    torch.manual_seed(0)
    conv, x = conv3(4, 6, stride), torch.randn(shape, requires_grad=True)
    y, full = conv(x), torch.nn.Conv3d.forward(conv, x)
    torch.testing.assert_close(y, full)
    g = torch.randn_like(y)
    for mine, theirs in zip(
        *(torch.autograd.grad(out, [x, conv.weight], g) for out in (y, full)), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
