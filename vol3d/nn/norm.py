"""Norms before a convolution: over groups of channels and the volume, or over the channels of a voxel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from einops import rearrange
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each voxel alone (Ba et al. 2016, arXiv:1607.06450).

    What it does to a voxel depends on no other, so that a patch is normed as the volume that it is of.
    Weights have the names and shapes of a group norm's.
    """

    num_groups = None

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = (
            nn.Parameter(torch.ones(channels)),
            nn.Parameter(torch.zeros(channels)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, X, Y, Z] -> the same."""
        return over_channels(x, self.weight, self.bias, self.eps)


def norm(channels: int, groups: int | None, eps: float) -> nn.GroupNorm | ChannelNorm:
    """A group norm; a channel norm if `groups` is None."""
    return ChannelNorm(channels, eps) if groups is None else nn.GroupNorm(groups, channels, eps)


def check_groups(channels: Sequence[int], groups: int) -> None:
    """Raise a ValueError, which names the settings, where a group norm cannot share out the channels."""
    for c in channels:
        if c % groups:
            raise ValueError(f"channels={c} must be a multiple of norm_groups={groups}")


def over_channels(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """See `ChannelNorm`."""
    voxels = rearrange(x, "b c x y z -> b x y z c")
    return rearrange(
        nnf.layer_norm(voxels, weight.shape, weight, bias, eps), "b x y z c -> b c x y z"
    )
