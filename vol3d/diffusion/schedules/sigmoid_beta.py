"""The sigmoid schedule (Jabri et al. 2022, arXiv:2212.11972, is its kin): betas rise in an S."""

from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from vol3d.diffusion.schedules.linear_beta import LinearBeta


class SigmoidBeta(LinearBeta):
    """The variance that a timestep adds follows a sigmoid between those, as in GeoDiff and MONAI."""

    kind: Literal["sigmoid_beta"] = "sigmoid_beta"

    sig_range: PositiveFloat = 6.0
    """The sigmoid is taken from minus this to this."""

    def betas(self) -> Tensor:
        """[T]."""
        s = torch.linspace(
            -self.sig_range, self.sig_range, self.num_train_timesteps, dtype=torch.float64
        )
        return s.sigmoid() * (self.beta_end - self.beta_start) + self.beta_start
