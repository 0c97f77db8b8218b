"""Noise of a batch in which each image has its own random numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_noise(rngs: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normal noise; an image's share depends on its own generator only.

    Args:
        rngs: one generator per image; each moves on.
        shape: [C, X, Y, Z] of one image.

    Returns:
        [B, C, X, Y, Z] float32, on the generators' device.
    """
    return torch.stack([torch.randn(*shape, generator=rng, device=rng.device) for rng in rngs])
