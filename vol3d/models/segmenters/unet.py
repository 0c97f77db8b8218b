"""A small U-Net for segmentation (Ronneberger et al. 2015; in 3-D, Çiçek et al. 2016)."""

from itertools import pairwise
from typing import Literal

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from vol3d.models.segmenters.base import SegmenterNetwork, dropped, rngs_of
from vol3d.nn.blocks import Down, ResBlock, Up, conv3
from vol3d.nn.fold import folded, unfolded
from vol3d.nn.norm import check_groups


class SegmenterUNet(SegmenterNetwork):
    """A residual block per level and direction; any shape is taken.

    Ours and not MONAI's: its networks want shapes that divide by 16 or more, and their instance norm
    leaves the memory layout in which convolutions are fast (measured on the CPU: six times slower).
    """

    kind: Literal["unet"] = "unet"
    channels: tuple[PositiveInt, ...] = (32, 64, 64)
    """Channels of each level; every level but the last halves the grid."""
    patch: PositiveInt = 2
    """Blocks of patch^3 voxels are folded into channels, which saves most of the time; 1 folds none."""
    norm_groups: PositiveInt = 8
    """Groups of the group norm."""

    @model_validator(mode="after")
    def check_channels(self) -> "SegmenterUNet":
        """Channels fit the norm's groups."""
        check_groups(self.channels, self.norm_groups)
        return self

    def build(self, in_channels: int, num_labels: int) -> nn.Module:
        """See `SegmenterNetwork.build`."""
        return SegmenterNet(self, in_channels, num_labels)


class SegmenterNet(nn.Module):
    """Down with a block at each level, and up again with what each level saw on the way."""

    def __init__(self, config: SegmenterUNet, in_channels: int, num_labels: int) -> None:
        super().__init__()
        self.patch, self.dropout = config.patch, config.dropout
        channels, n, groups = config.channels, config.patch**3, config.norm_groups
        above = (channels[0], *channels[:-1])
        self.conv_in = conv3(in_channels * n, channels[0])
        self.down = nn.ModuleList(
            ResBlock(a, c, groups=groups) for a, c in zip(above, channels, strict=True)
        )
        self.shrink = nn.ModuleList(Down(c) for c in channels[:-1])
        self.enlarge = nn.ModuleList(Up(c) for c in channels[1:])
        self.up = nn.ModuleList(ResBlock(c + a, a, groups=groups) for a, c in pairwise(channels))
        self.norm_out = nn.GroupNorm(groups, channels[0])
        self.conv_out = conv3(channels[0], num_labels * n)

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """[B, C, X, Y, Z] -> [B, num_labels, X, Y, Z]; with `seeds` of the images [B], with dropout."""
        rngs = rngs_of(seeds)
        h = self.conv_in(folded(x, self.patch))
        seen = []
        for block, halve in zip(self.down, [*self.shrink, None], strict=True):
            h = block(h)
            if halve is not None:
                seen.append(h)
                h = halve(h)
        for block, double in zip(reversed(self.up), reversed(self.enlarge), strict=True):
            skip = seen.pop()
            h = dropped(block(torch.cat([double(h, None, skip), skip], 1)), self.dropout, rngs)
        return unfolded(self.conv_out(functional.silu(self.norm_out(h))), self.patch, x.shape[2:])
