"""The latent diffusion schedule (Rombach et al. 2022, arXiv:2112.10752): linear in sqrt(beta)."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vol3d.diffusion.schedules.discrete import Discrete


class ScaledLinearBeta(Discrete):
    """The square root of the variance that a timestep adds grows linearly."""

    kind: Literal["scaled_linear_beta"] = "scaled_linear_beta"

    beta_start: Annotated[float, Field(gt=0, lt=1)] = 0.0015
    """Variance that the first timestep adds."""

    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.0195
    """Variance that the last timestep adds."""

    def betas(self) -> Tensor:
        """Evenly spaced square roots, squared, [T]."""
        first, last = self.beta_start**0.5, self.beta_end**0.5
        return torch.linspace(first, last, self.num_train_timesteps, dtype=torch.float64) ** 2
