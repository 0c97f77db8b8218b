"""Numbers as vectors of sines and cosines."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor


def sinusoidal(t: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """The timestep embedding of DDPM (Ho et al. 2020), after Vaswani et al. 2017, section 3.5.

    Args:
        t: [B], in units of which the fastest wave takes 2 pi.
        dim: length of the embedding.
        max_period: about that of the slowest wave.

    Returns:
        [B, dim] float32: cosines, then sines; then a zero if `dim` is odd.
    """
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * frequencies  # [B, half]
    waves = torch.cat([angles.cos(), angles.sin()], dim=1)
    return nnf.pad(waves, (0, dim % 2))


def positions(grid: Sequence[int], dim: int, device: torch.device) -> Tensor:
    """Where each cell of a grid is, a third of the waves an axis, [X Y Z, dim] float32.

    Args:
        grid: cells along X, Y, Z.
        dim: a multiple of 6.
        device: of the result.
    """
    index = torch.cartesian_prod(*(torch.arange(n, device=device) for n in grid))  # [N, 3]
    return torch.cat([sinusoidal(i, dim // 3) for i in index.T], dim=1)
