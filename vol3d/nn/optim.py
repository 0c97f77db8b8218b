"""How the weights move: AdamW, its learning rate over the run, and the clip of its gradient."""

import math

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat

from vol3d.config import Config


class Optim(Config):
    """AdamW (Loshchilov and Hutter 2019) with a linear warm-up and a cosine decay to zero."""

    lr: PositiveFloat = 1e-3
    """Highest learning rate."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of the running mean and square of the gradient."""
    weight_decay: NonNegativeFloat = 1e-4
    """Decoupled weight decay."""
    warmup: float = Field(default=0.02, ge=0, lt=1)
    """Share of the run in which the learning rate rises from zero."""
    clip: PositiveFloat = 1.0
    """The gradient's norm is scaled down to this at most."""

    def build(self, parameters: list[torch.nn.Parameter]) -> torch.optim.AdamW:
        """The optimiser. Fused, because a fused step can be dropped on the device (see engine)."""
        return torch.optim.AdamW(
            parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=True
        )

    def rate(self, share: float) -> float:
        """The learning rate when this share of the run is done."""
        rising = min(1.0, (share + 1e-9) / self.warmup) if self.warmup else 1.0
        return self.lr * rising * (0.5 + 0.5 * math.cos(math.pi * min(share, 1.0)))
