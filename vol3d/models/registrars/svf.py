"""One U-Net, one stationary velocity field, followed by scaling and squaring.

VoxelMorph-diff (Dalca et al. 2019, MedIA 57:226, arXiv:1903.03545), without its probabilities.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from vol3d.models.registrars.base import Encoder, Fuse, RegistrarNetwork
from vol3d.nn.blocks import ResBlock, Up, conv3, zeroed


class Svf(RegistrarNetwork):
    """Both images enter one U-Net as channels; what keeps the field smooth is the loss alone."""

    kind: Literal["svf"] = "svf"

    def build(self, in_channels: int, guide_channels: Sequence[int] = ()) -> nn.Module:
        """See `RegistrarNetwork.build`."""
        return SvfNet(self, in_channels, guide_channels)


class SvfNet(nn.Module):
    """Down with a block at each level, and up again with what each level saw on the way."""

    def __init__(self, config: Svf, in_channels: int, guide_channels: Sequence[int] = ()) -> None:
        super().__init__()
        channels, groups = config.channels, config.norm_groups
        self.encoder = Encoder(channels, 2 * in_channels, groups)
        pairs = [2 * c for c in guide_channels]  # those of both images
        self.fuse = nn.ModuleList(map(Fuse, channels, pairs))
        self.enlarge = nn.ModuleList(Up(c) for c in channels[1:])
        self.up = nn.ModuleList(ResBlock(c + a, a, groups=groups) for a, c in pairwise(channels))
        self.conv_out = zeroed(conv3(channels[0], 3))  # it begins as nothing

    def forward(self, moving: Tensor, fixed: Tensor, guides: Sequence[Tensor] = ()) -> list[Tensor]:
        """See `RegistrarNetwork.build`; one velocity."""
        levels = self.encoder(torch.cat([moving, fixed], 1))
        if guides:
            of_both = (torch.cat(g.chunk(2), 1) for g in guides)
            levels = [f(h, g) for f, h, g in zip(self.fuse, levels, of_both, strict=True)]
        *seen, h = levels
        for block, double in zip(reversed(self.up), reversed(self.enlarge), strict=True):
            skip = seen.pop()
            h = block(torch.cat([double(h, None, skip), skip], 1))
        return [self.conv_out(silu(h)).float()]
