"""DDPM's linear schedule (Ho et al. 2020, arXiv:2006.11239, section 4)."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vol3d.diffusion.schedules.discrete import Discrete

Beta = Annotated[float, Field(gt=0, lt=1)]


class LinearBeta(Discrete):
    """The variance that a timestep adds grows linearly."""

    kind: Literal["linear_beta"] = "linear_beta"

    beta_start: Beta = 1e-4
    """Variance that the first timestep adds."""

    beta_end: Beta = 2e-2
    """Variance that the last timestep adds."""

    def betas(self) -> Tensor:
        """Evenly spaced, [T]."""
        return torch.linspace(
            self.beta_start, self.beta_end, self.num_train_timesteps, dtype=torch.float64
        )
