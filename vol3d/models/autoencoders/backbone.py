"""The encoder and decoder that all autoencoders share: residual blocks around strided convolutions."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as nnf
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.nn import slab_inference as inference
from vol3d.nn.attention import AttentionBlock
from vol3d.nn.blocks import Down, ResBlock, Up, Upsampling, affine, conv3, recompute
from vol3d.nn.fold import fold, unfold
from vol3d.nn.norm import check_groups
from vol3d.nn.slab_layers import conv_in, laid, norm_conv


class Backbone(Config):
    """The settings of encoder and decoder."""

    channels: tuple[PositiveInt, ...] = (32, 64)
    """Channels of each level; every level but the last halves the grid."""
    z_channels: PositiveInt = 4
    """Channels of the latent."""
    patch: PositiveInt = 2
    """Blocks of patch^3 voxels are folded into channels before the first layer, which saves most of
    the time and memory; 1 folds nothing."""
    num_res_blocks: PositiveInt | tuple[PositiveInt, ...] = 1
    """Residual blocks of each level."""
    attention_levels: tuple[bool, ...] = ()
    """Which levels attend; none if empty."""
    mid_attention_encoder: bool = False
    """Attention between two residual blocks before the latent."""
    mid_attention_decoder: bool = False
    """The same after it."""
    norm_groups: PositiveInt = 8
    """Groups of the group norm."""
    norm_eps: float = 1e-6
    """Epsilon of the group norm."""
    upsampling: Upsampling = "repeat"
    """How to go up: voxels repeated or interpolated (trilinear) and a convolution; or a transposed
    convolution of 2 voxels an axis (transposed) or 3 (transposed_wide)."""
    checkpointing: bool = False
    """Keep only what goes into each block, and compute the rest again in the backward pass: a third
    less memory, a sixth more time."""
    splits: PositiveInt | None = None
    """Slabs in which each layer is computed, exactly; null takes as many as suit the device."""

    @model_validator(mode="after")
    def check_levels(self) -> "Backbone":
        """Every level has its settings, and its channels fit the norm's groups."""
        if not self.channels:
            raise ValueError("channels=() must name at least one level")
        for name in ("num_res_blocks", "attention_levels"):
            value = getattr(self, name)
            none = name == "attention_levels" and value == ()
            if isinstance(value, tuple) and not none and len(value) != len(self.channels):
                raise ValueError(f"{name}={value} must have one entry per level of {self.channels}")
        check_groups(self.channels, self.norm_groups)
        return self

    @property
    def blocks_per_level(self) -> tuple[int, ...]:
        """`num_res_blocks`, one per level."""
        n = self.num_res_blocks
        return n if isinstance(n, tuple) else (n,) * len(self.channels)

    @property
    def attends(self) -> tuple[bool, ...]:
        """`attention_levels`, one per level."""
        return self.attention_levels or (False,) * len(self.channels)

    @property
    def downsample(self) -> int:
        """Linear factor between a volume and its latent."""
        return self.patch * 2 ** (len(self.channels) - 1)

    def latent_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """[C, x, y, z] of the latent of a volume [X, Y, Z]; x = ceil(X / downsample)."""
        return (self.z_channels, *(-(-n // self.downsample) for n in shape))


class Encoder(nn.Module):
    """Residual blocks level by level, each level at half the grid."""

    def __init__(self, config: Backbone, in_channels: int) -> None:
        super().__init__()
        self.checkpointing, self.splits = config.checkpointing, config.splits
        self.patch, self.downsample = config.patch, config.downsample
        first, last = config.channels[0], config.channels[-1]
        blocks = [conv3(in_channels * config.patch**3, first)]
        blocks += levels(config, 1, lambda c: Down(c, padding=0, splits=config.splits))
        blocks += middle(config, last) if config.mid_attention_encoder else []
        norm = nn.GroupNorm(config.norm_groups, last, config.norm_eps)
        self.blocks = nn.ModuleList([*blocks, norm, conv3(last, config.z_channels)])

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, X, Y, Z] -> [B, z_channels, x, y, z], x = ceil(X / downsample).

        Where an axis does not divide, zeros are added at its high end.
        """
        rest = [-n % self.downsample for n in x.shape[2:]]
        if any(rest):
            x = nnf.pad(x, (0, rest[2], 0, rest[1], 0, rest[0]))
        x = fold(x, self.patch) if self.patch > 1 else x  # [B, folded, X / patch, ...]
        return through(self, x)


class Decoder(nn.Module):
    """The encoder's mirror image."""

    def __init__(self, config: Backbone, out_channels: int) -> None:
        super().__init__()
        self.checkpointing, self.splits = config.checkpointing, config.splits
        self.patch = config.patch
        first, last = config.channels[-1], config.channels[0]
        blocks = [conv3(config.z_channels, first)]
        blocks += middle(config, first) if config.mid_attention_decoder else []
        blocks += levels(config, -1, lambda c: Up(c, how=config.upsampling, splits=config.splits))
        norm = nn.GroupNorm(config.norm_groups, last, config.norm_eps)
        self.blocks = nn.ModuleList([*blocks, norm, conv3(last, out_channels * config.patch**3)])

    def forward(self, z: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """[B, z_channels, x, y, z] -> [B, out_channels, *shape]; without a shape, all of it."""
        x = through(self, z)
        x = unfold(x, self.patch) if self.patch > 1 else x
        return x if shape is None else x[:, :, : shape[0], : shape[1], : shape[2]]


def levels(config: Backbone, step: int, between: Callable[[int], nn.Module]) -> list[nn.Module]:
    """The blocks of every level, from the first on (step 1) or from the last (-1), and between levels."""
    blocks, c = [], config.channels[::step][0]
    each = list(zip(config.channels, config.blocks_per_level, config.attends, strict=True))[::step]
    for i, (cout, n, attend) in enumerate(each):
        blocks += [between(c)] if i else []
        for _ in range(n):
            blocks.append(residual(config, c, cout))
            blocks += [attention(config, cout)] if attend else []
            c = cout
    return blocks


def middle(config: Backbone, c: int) -> list[nn.Module]:
    """Attention between two residual blocks."""
    return [residual(config, c, c), attention(config, c), residual(config, c, c)]


def residual(config: Backbone, cin: int, cout: int) -> ResBlock:
    """A residual block."""
    norm = {"groups": config.norm_groups, "eps": config.norm_eps}
    return ResBlock(cin, cout, **norm, keep=not config.checkpointing, splits=config.splits)


def attention(config: Backbone, c: int) -> AttentionBlock:
    """An attention block."""
    return AttentionBlock(c, groups=config.norm_groups, eps=config.norm_eps)


def through(net: Encoder | Decoder, x: Tensor) -> Tensor:
    """x through all blocks; the norm and convolution at the end are one layer.

    Without gradients it goes image by image, in slabs that the blocks write over.
    """
    first, *blocks, norm, conv = net.blocks
    if torch.is_grad_enabled():
        x = conv_in(x, first.weight, first.bias)
    elif len(x) > 1:
        return torch.cat([through(net, image) for image in x.split(1)])
    else:
        x = inference.conv_in(laid(x), first.weight, first.bias, net.splits)
    for block in blocks:
        attends = isinstance(block, AttentionBlock)
        x = recompute(net.checkpointing and attends, block, x)
    return norm_conv(x, affine(norm), (conv.weight, conv.bias), is_active=False, splits=net.splits)
