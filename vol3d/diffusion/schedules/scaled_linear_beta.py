"""The latent diffusion schedule (Rombach et al. 2022, arXiv:2112.10752): linear in sqrt(beta)."""

from typing import Literal

import torch
from torch import Tensor

from vol3d.diffusion.schedules.linear_beta import Beta, LinearBeta


class ScaledLinearBeta(LinearBeta):
    """The square root of the variance that a timestep adds grows linearly."""

    kind: Literal["scaled_linear_beta"] = "scaled_linear_beta"

    beta_start: Beta = 0.0015
    beta_end: Beta = 0.0195

    def betas(self) -> Tensor:
        """Evenly spaced square roots, squared, [T]."""
        first, last = self.beta_start**0.5, self.beta_end**0.5
        return torch.linspace(first, last, self.num_train_timesteps, dtype=torch.float64) ** 2
