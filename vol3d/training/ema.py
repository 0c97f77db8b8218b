"""Averaged weights, which make better samples than the last ones."""

import copy

import torch
from torch import Tensor, nn


class Ema:
    """An exponential moving average of a network's weights, with its half-life in images.

    The half-life grows from nothing to `halflife` over the start of the run, so that the random
    initial weights are forgotten (Karras et al. 2022, App. F.1, ramp-up ratio 0.05).
    """

    def __init__(self, net: nn.Module, halflife: float) -> None:
        self.halflife = halflife
        self.net = copy.deepcopy(net).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, net: nn.Module, nimg: int, batch: int) -> None:
        """Move towards the network's weights, after a batch that ended at image `nimg`."""
        move(list(self.net.parameters()), list(net.parameters()), share(self.halflife, nimg, batch))
        for mine, theirs in zip(self.net.buffers(), net.buffers(), strict=True):
            mine.copy_(theirs)


def share(halflife: float, nimg: int, batch: int) -> float:
    """How far an average moves after a batch that ended at image `nimg`, in [0, 1]."""
    return 1 - 0.5 ** (batch / max(min(halflife, 0.05 * nimg), 1e-8))


@torch.no_grad()
def move(averages: list[Tensor], weights: list[Tensor], far: float) -> None:
    """Move averages towards weights."""
    torch._foreach_lerp_(averages, weights, far)
