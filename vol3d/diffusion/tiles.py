"""Denoising tile by tile, each as a patch in training, with a coarse look at the whole where due."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vol3d.diffusion.condition import Condition, join
from vol3d.diffusion.denoiser import Denoiser
from vol3d.errors import DataError

OVERLAP = 0.25
"""Share of a tile that the next one covers too, at least."""


def coarse_look(x: Tensor, size: Sequence[int]) -> Tensor:
    """The whole in as many voxels as a patch has: averages of x [B, C, X, Y, Z] -> [B, C, *size].

    Yang et al. 2025 (arXiv:2512.18161). It is linear, so the look at a noisy image is the noisy look at
    the image; and since averages have less noise, it shows what a patch cannot know.
    """
    return functional.adaptive_avg_pool3d(x, tuple(size))


class Tiled:
    """A denoiser that sees no more than a tile at a time.

    Overlapping estimates are blended, each with a weight that falls towards the edge of its tile.

    Args:
        denoiser: trained on patches.
        size: of the tiles, voxels along X, Y, Z.
        coarse: the network takes a coarse look at the whole beside each tile.
    """

    def __init__(self, denoiser: Denoiser, size: Sequence[int], *, coarse: bool) -> None:
        self.denoiser, self.size, self.coarse = denoiser, tuple(size), coarse
        self.schedule = denoiser.schedule

    def __call__(self, x: Tensor, sigma: Tensor, cond: Condition) -> Tensor:
        """The estimate of x0, [B, C, X, Y, Z]; see `Denoiser.forward`."""
        return self.estimate(x, sigma, cond)[0]

    def estimate(self, x: Tensor, sigma: Tensor, cond: Condition) -> tuple[Tensor, Tensor | None]:
        """The same, and the share of a learned variance; see `Denoiser.estimate`.

        Raises:
            DataError: the whole is smaller than a tile, and a coarse look at it is due.
        """
        shape = x.shape[2:]
        size = [min(n, s) for n, s in zip(shape, self.size, strict=True)]
        window = blending(size, x.device)
        look = Condition()
        if self.coarse and size != [*self.size]:
            raise DataError(
                f"an image of {tuple(shape)} voxels is smaller than the patches of training, "
                f"{self.size}, beside which this model looks at the whole"
            )
        if self.coarse:
            look = Condition(channels=self.denoiser.seen(coarse_look(x, size), sigma))
        total, weights, shares = torch.zeros_like(x), x.new_zeros(shape), None
        for start in itertools.product(*map(starts, shape, size)):
            at = (..., *(slice(s, s + n) for s, n in zip(start, size, strict=True)))
            there = Condition(
                cond.vector,
                cond.tokens,
                *(None if t is None else t[at] for t in (cond.channels, cond.addition)),
            )
            D, share = self.denoiser.estimate(x[at], sigma, join([there, look]))
            total[at] += window * D
            weights[at] += window
            if share is not None:
                shares = torch.zeros_like(x) if shares is None else shares
                shares[at] += window * share
        return total / weights, None if shares is None else shares / weights


def starts(n: int, size: int) -> list[int]:
    """Where tiles begin along an axis of n voxels: evenly, overlapping by `OVERLAP` at least."""
    free = n - size
    steps = math.ceil(free / (size * (1 - OVERLAP)))
    return [round(i * free / steps) for i in range(steps + 1)] if steps else [0]


def blending(size: Sequence[int], device: torch.device | str) -> Tensor:
    """[X, Y, Z] weights of a tile's voxels: 1 in the middle, falling linearly towards each face."""
    axes = [1 - (torch.arange(n, device=device) - (n - 1) / 2).abs() / (n / 2 + 0.5) for n in size]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    return x * y * z
