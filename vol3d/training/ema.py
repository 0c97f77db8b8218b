"""Averaged weights, which make better samples than the last ones."""

import copy

import torch
from torch import nn


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
        halflife = min(self.halflife, 0.05 * nimg)
        keep = 0.5 ** (batch / max(halflife, 1e-8))
        torch._foreach_lerp_(list(self.net.parameters()), list(net.parameters()), 1 - keep)
        for mine, theirs in zip(self.net.buffers(), net.buffers(), strict=True):
            mine.copy_(theirs)
