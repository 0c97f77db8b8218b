"""Numbers as vectors of sines and cosines."""

import math

import torch
from torch import Tensor


def sinusoidal(t: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """The timestep embedding of DDPM (Ho et al. 2020), after Vaswani et al. 2017, section 3.5.

    Args:
        t: [B], in units of which the fastest wave takes 2 pi.
        dim: even length of the embedding.
        max_period: about that of the slowest wave.

    Returns:
        [B, dim] float32: cosines, then sines.
    """
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * frequencies  # [B, half]
    return torch.cat([angles.cos(), angles.sin()], dim=1)
