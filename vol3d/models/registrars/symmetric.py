"""Both images move, half the way each, level by level; exchanged images give the inverse exactly.

After SITReg (Honkamaa and Marttinen 2024, MELBA 2:026, arXiv:2303.10211): on each level, the coarsest
first, features of both images are brought to the middle by what was found so far, and an update u(a, b) -
u(b, a) is made of them. Theirs is a displacement of splines, inverted by iteration; ours is a velocity,
whose inverse is its negative.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from vol3d.models.registrars.base import Encoder, Fuse, RegistrarNetwork
from vol3d.nn.blocks import conv3, zeroed
from vol3d.transforms.deformation import flow, resized
from vol3d.transforms.warp import compose, warp

SQUARINGS = 1
"""Of an update on its own grid, where it moves nothing by more than a fraction of a voxel."""


class Symmetric(RegistrarNetwork):
    """Features of each image by itself, and an update on each level: the default."""

    kind: Literal["symmetric"] = "symmetric"
    limit: float = Field(default=0.5, gt=0)
    """The largest velocity along an axis on each level, in voxels of its grid. Up to 0.5 no update can
    fold: neighbours' half steps then differ by less than their distance, whatever the network says."""

    def build(self, in_channels: int, guide_channels: Sequence[int] = ()) -> nn.Module:
        """See `RegistrarNetwork.build`."""
        return SymmetricNet(self, in_channels, guide_channels)


class SymmetricNet(nn.Module):
    """An encoder, and a small head for each level."""

    def __init__(
        self, config: Symmetric, in_channels: int, guide_channels: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.limit = config.limit
        self.encoder = Encoder(config.channels, in_channels, config.norm_groups)
        self.fuse = nn.ModuleList(map(Fuse, config.channels, guide_channels))
        self.heads = nn.ModuleList(head(c) for c in config.channels)

    def forward(self, moving: Tensor, fixed: Tensor, guides: Sequence[Tensor] = ()) -> list[Tensor]:
        """See `RegistrarNetwork.build`; the coarsest velocity is the outermost."""
        levels = self.encoder(torch.cat([moving, fixed]))
        if guides:
            levels = [f(h, g) for f, h, g in zip(self.fuse, levels, guides, strict=True)]
        velocities: list[Tensor] = []
        u = None  # [2B, 3, x, y, z] from the middle to the moving and to the fixed image
        for h, update in zip(reversed(levels), reversed(self.heads), strict=True):
            if u is not None:
                u = resized(u, h.shape[2:])
                h = warp(h, u, outside="border").to(h.dtype)
            a, b = h.chunk(2)
            there, back = update(torch.cat([torch.cat([a, b], 1), torch.cat([b, a], 1)])).chunk(2)
            v = self.limit * smoothed(torch.tanh(there.float() - back.float()))
            velocities.append(v)
            if len(velocities) < len(levels):
                half = flow(torch.cat([v, -v]) / 2, SQUARINGS)
                u = half if u is None else compose(u, half)
        return velocities


def head(channels: int) -> nn.Module:
    """Features of two images, [B, 2 channels, x, y, z] -> [B, 3, x, y, z]; it begins as nothing."""
    return nn.Sequential(
        conv3(2 * channels, channels),
        nn.SiLU(),
        conv3(channels, channels),
        nn.SiLU(),
        zeroed(conv3(channels, 3)),
    )


def smoothed(v: Tensor) -> Tensor:
    """The cubic B-spline with these weights, at its knots: what differs by 2 differs by 4/3 then.

    Three derivatives of a half step of at most 1/4 then add up to 1 at most.
    """
    for axis in (2, 3, 4):
        n = v.shape[axis]
        around = pad(v, [0, 0] * (4 - axis) + [1, 1] + [0, 0] * (axis - 2), mode="replicate")
        left, right = around.narrow(axis, 0, n), around.narrow(axis, 2, n)
        v = (left + 4 * v + right) / 6
    return v
