"""The layers of the 3-D networks: convolution, residual blocks, halving and doubling of the grid."""

from typing import Literal

import torch
import torch.nn.functional as nnf
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vol3d.nn import slab_inference as inference
from vol3d.nn.norm import ChannelNorm, norm
from vol3d.nn.slab_conv import TAPS
from vol3d.nn.slab_inference import Affine, Conv, cut
from vol3d.nn.slab_layers import down_conv, residual
from vol3d.nn.slab_volume import Slabbed
from vol3d.nn.upsample_conv import up_conv
from vol3d.nn.winograd import pays, winograd

Upsampling = Literal["repeat", "transposed", "transposed_wide", "trilinear"]
"""Ways to double the grid; see `Up`."""


class Conv3(nn.Conv3d):
    """A 3 x 3 x 3 convolution.

    Where oneDNN's kernels are slow on the CPU it is done in another way (torch 2.13): in bf16 in parts,
    with more than 256 channels out and many voxels; as one matrix product, with few voxels; in float32
    with many channels and voxels, and no gradient, with fewer products (`nn/winograd.py`).

    A slice is a volume one voxel thick: there the outer planes of the kernel see nothing but padding, and
    what is left is a 3 x 3 convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, cin, X, Y, Z] -> [B, cout, ...]."""
        if self.padding[0] == 1 and 1 in x.shape[2:]:
            return self.on_slice(x)
        voxels, is_plain = len(x) * x[0, 0].numel(), self.stride[0] == self.padding[0] == 1
        if x.device.type != "cpu" or not is_plain:
            return super().forward(x)
        if voxels <= 256:
            return as_product(x, self.weight, self.bias)
        if x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
            if pays(x, self.weight) and not torch.is_grad_enabled():
                return winograd(x, self.weight, self.bias, 1)
        elif voxels > 4096 and len(self.weight) > 256:
            parts = zip(self.weight.split(256), self.bias.split(256), strict=True)
            return torch.cat([nnf.conv3d(x, w, b, padding=1) for w, b in parts], 1)
        return super().forward(x)

    def on_slice(self, x: Tensor) -> Tensor:
        """The same where an axis has one voxel, in two dimensions."""
        axis = 2 + x.shape[2:].index(1)
        flat, weight = x.select(axis, 0), self.weight.select(axis, 1)
        return nnf.conv2d(flat, weight, self.bias, self.stride[0], 1).unsqueeze(axis)


def as_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 3 x 3 x 3 convolution as a matrix product with every voxel's neighbourhood."""
    X, Y, Z = x.shape[2:]
    x = rearrange(nnf.pad(x, (1,) * 6), "b c x y z -> b x y z c")
    near = [x[:, i : X + i, j : Y + j, k : Z + k] for i, j, k in TAPS]
    rows = rearrange(weight, "d c i j k -> d (i j k c)")  # no copy in channels-last layout
    return rearrange(nnf.linear(torch.cat(near, -1), rows, bias), "b x y z d -> b d x y z")


def conv3(cin: int, cout: int, stride: int = 1, padding: int = 1) -> nn.Conv3d:
    """A 3 x 3 x 3 convolution."""
    return Conv3(cin, cout, 3, stride=stride, padding=padding)


def affine(norm: nn.GroupNorm | ChannelNorm) -> Affine:
    """A norm as the slab-wise layers take it."""
    return norm.weight, norm.bias, norm.num_groups, norm.eps


def straight(shortcut: nn.Module) -> Conv | None:
    """A shortcut as the slab-wise layers take it."""
    is_plain = isinstance(shortcut, nn.Identity)
    return None if is_plain else (shortcut.weight, shortcut.bias)


def zeroed(module: nn.Module) -> nn.Module:
    """The module with zero weights, so that a residual branch begins as nothing."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


def recompute(is_on: bool, block: nn.Module, *inputs: Tensor | None) -> Tensor:
    """Call a block; with gradient checkpointing its activations are computed again in the backward.

    Chen et al. 2016 (arXiv:1604.06174). Gradients are the same bit for bit.
    """
    if is_on and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice, and the input added (He et al. 2016), slab by slab.

    Args:
        cin: channels in.
        cout: channels out.
        groups: of the group norm.
        eps: of the group norm.
        keep: what lies between the convolutions, for the backward pass; else it is computed again.
        splits: slabs; None takes as many as suit the device.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        *,
        groups: int,
        eps: float = 1e-6,
        keep: bool = True,
        splits: int | None = None,
    ) -> None:
        super().__init__()
        self.keep, self.splits = keep, splits
        self.norm1 = nn.GroupNorm(groups, cin, eps)
        self.conv1 = conv3(cin, cout)
        self.norm2 = nn.GroupNorm(groups, cout, eps)
        self.conv2 = conv3(cout, cout)
        self.shortcut = nn.Conv3d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x: Tensor | Slabbed) -> Tensor | Slabbed:
        """[B, cin, X, Y, Z] -> [B, cout, X, Y, Z]; one image in slabs comes out in slabs."""
        return residual(
            x,
            affine(self.norm1),
            (self.conv1.weight, self.conv1.bias),
            affine(self.norm2),
            (self.conv2.weight, self.conv2.bias),
            straight(self.shortcut),
            keep=self.keep,
            splits=self.splits,
        )


class SteeredBlock(nn.Module):
    """A residual block steered by an embedding, as diffusion networks have it.

    Args:
        cin: channels in.
        cout: channels out.
        groups: of the group norm; None norms each voxel over its channels.
        eps: of the norm.
        emb_dim: length of the embedding.
        adaptive: the embedding scales and shifts after the second norm (adaptive group norm,
            Dhariwal and Nichol 2021, arXiv:2105.05233, section 3.1); else it is added before it.
        resample: "down" or "up" halves or doubles the grid inside the block.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        *,
        groups: int | None,
        eps: float = 1e-6,
        emb_dim: int,
        adaptive: bool,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.adaptive, self.resample = adaptive, resample
        self.norm1 = norm(cin, groups, eps)
        self.conv1 = conv3(cin, cout)
        self.emb = nn.Linear(emb_dim, 2 * cout if adaptive else cout)
        self.norm2 = norm(cout, groups, eps)
        self.conv2 = zeroed(conv3(cout, cout))  # the block begins as nothing
        self.shortcut = nn.Conv3d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(
        self, x: Tensor | Slabbed, emb: Tensor, size_of: Tensor | Slabbed | None = None
    ) -> Tensor | Slabbed:
        """x [B, C, X, Y, Z], emb [B, emb_dim]; going up, the size of `size_of` is met exactly.

        One image in slabs comes out in slabs.
        """
        if isinstance(x, Slabbed):
            return self.in_slabs(x, emb, size_of)
        h = nnf.silu(self.norm1(x))
        if self.resample == "up":
            x = double(x, size_of)
            h = up(h, self.conv1, size_of)
        elif self.resample == "down":
            x, h = halve(x), self.conv1(halve(h))
        else:
            h = self.conv1(h)
        e = rearrange(self.emb(nnf.silu(emb)), "b c -> b c 1 1 1")
        if self.adaptive:
            scale, shift = e.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + e)
        return self.shortcut(x) + self.conv2(nnf.silu(h))

    def in_slabs(self, x: Slabbed, emb: Tensor, size_of: Slabbed | None) -> Slabbed:
        """The same for one image, whose embedding is a part of the weights: a plain residual block."""
        if self.resample:
            y = self(x.whole(), emb, size_of)
            cuts = size_of.cuts if size_of else inference.level_cuts(y.shape[2:], y.shape[1], y)
            return Slabbed.of(y, cuts, measured=True)
        e = self.emb(nnf.silu(emb))[0]
        gamma, beta, groups, eps = affine(self.norm2)
        bias = self.conv1.bias
        if self.adaptive:
            scale, shift = e.chunk(2)
            gamma, beta = gamma * (1 + scale), beta * (1 + scale) + shift
        else:
            bias = bias + e
        return inference.residual(
            x,
            affine(self.norm1),
            (self.conv1.weight, bias),
            (gamma, beta, groups, eps),
            (self.conv2.weight, self.conv2.bias),
            straight(self.shortcut),
        )


class Down(nn.Module):
    """A convolution with stride 2; `padding` 0 pads a voxel at the high end only, as autoencoders do."""

    def __init__(self, channels: int, padding: int = 1, splits: int | None = None) -> None:
        super().__init__()
        self.splits = splits
        self.conv = conv3(channels, channels, stride=2, padding=padding)

    def forward(self, x: Tensor | Slabbed, emb: Tensor | None = None) -> Tensor | Slabbed:
        """[B, C, X, Y, Z] -> half of each axis."""
        conv, padding = (self.conv.weight, self.conv.bias), self.conv.padding[0]
        if padding == 0:
            return down_conv(x, conv, self.splits)
        if isinstance(x, Slabbed):
            size = [(n + 1) // 2 for n in x.shape[2:]]
            cuts = inference.level_cuts(size, 2 * x.shape[1], x.last)
            return inference.strided(x, conv, 2, (1, 1), self.splits, cuts)
        return self.conv(x)


class Up(nn.Module):
    """The grid doubled, in one of four ways.

    Args:
        channels: in and out.
        how: voxels repeated ("repeat") or interpolated ("trilinear"), then a convolution; or a
            transposed convolution of 2 voxels ("transposed") or 3 ("transposed_wide") an axis.
        splits: slabs, if repeating; None takes as many as suit the device.
    """

    def __init__(
        self, channels: int, *, how: Upsampling = "repeat", splits: int | None = None
    ) -> None:
        super().__init__()
        self.how, self.splits = how, splits
        if how == "transposed":
            self.conv = nn.ConvTranspose3d(channels, channels, 2, stride=2)
        elif how == "transposed_wide":
            self.conv = nn.ConvTranspose3d(
                channels, channels, 3, stride=2, padding=1, output_padding=1
            )
        else:
            self.conv = conv3(channels, channels)

    def forward(
        self,
        x: Tensor | Slabbed,
        emb: Tensor | None = None,
        size_of: Tensor | Slabbed | None = None,
    ) -> Tensor | Slabbed:
        """[B, C, X, Y, Z] -> twice each axis; if repeating, the size of `size_of`."""
        if self.how == "repeat":
            return up(x, self.conv, size_of, self.splits)
        if isinstance(x, Slabbed):
            return cut(self(x.whole()), self.splits)
        if self.how == "trilinear":
            x = nnf.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)
        return self.conv(x)


def halve(x: Tensor) -> Tensor:
    """Averages of 2 x 2 x 2 voxels; an odd axis repeats its last one.

    Axis by axis, because the CPU has no bf16 pooling, and a mean over a folded view would be four
    times slower and lose the channels-last layout.
    """
    for axis in (2, 3, 4):
        if x.shape[axis] % 2:
            x = torch.cat([x, x.narrow(axis, -1, 1)], axis)
        even, odd = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
        x = (even + odd) / 2
    return x


def double(x: Tensor, size_of: Tensor | Slabbed | None = None) -> Tensor:
    """Each voxel repeated along each axis; the last ones once only where `size_of` is odd there."""
    return to_size(nnf.interpolate(x, scale_factor=2.0, mode="nearest"), size_of)


def up(
    x: Tensor | Slabbed,
    conv: nn.Conv3d,
    size_of: Tensor | Slabbed | None = None,
    splits: int | None = None,
) -> Tensor | Slabbed:
    """The grid doubled, or met where `size_of` is odd, and a convolution."""
    layer = conv.weight, conv.bias
    if size_of is None or not any(n % 2 for n in size_of.shape[2:]):
        return up_conv(x, layer, splits, size_of.cuts if isinstance(size_of, Slabbed) else None)
    return inference.met(x, layer, size_of) if isinstance(x, Slabbed) else conv(double(x, size_of))


def merge(h: Tensor | Slabbed, skip: Tensor | Slabbed, is_added: bool) -> Tensor | Slabbed:
    """What goes up and what came down on the same grid, side by side; their mean if it `is_added`."""
    if isinstance(h, Slabbed):
        return inference.merge(h, skip, is_added)
    # A sum lies in memory as its first part does. The skip has each channel in one piece; PyTorch's group
    # norm on a CPU takes other layouts' sums in float32 one by one, which is 1e-3 off at 80x112x80.
    return (skip + h) / 2 if is_added else torch.cat([h, skip], 1)


def to_size(x: Tensor, size_of: Tensor | Slabbed | None) -> Tensor:
    """x without its last voxels where `size_of` has fewer."""
    if size_of is not None and x.shape[2:] != size_of.shape[2:]:
        a, b, c = size_of.shape[2:]
        x = x[:, :, :a, :b, :c]
    return x
