"""The variance-exploding SDE (Song et al. 2021, arXiv:2011.13456) as Karras et al. put it."""

import math
from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from vol3d.diffusion.schedules.variance_exploding import VarianceExploding


class VE(VarianceExploding):
    """x = x0 + sigma n, with every order of magnitude of sigma as likely in training.

    The "VE" column of Table 1 of Karras et al. 2022 (arXiv:2206.00364); with `eps` the network is
    the score times -sigma, and sees x unscaled, as there.
    """

    kind: Literal["ve"] = "ve"

    sigma_min: PositiveFloat = 0.02
    """Smallest noise level."""

    sigma_max: PositiveFloat = 100.0
    """Largest noise level."""

    def draw_sigma(self, rng: torch.Generator) -> Tensor:
        """A training noise level for one image: ln(sigma) is uniform."""
        u = torch.rand((), generator=rng, device=rng.device, dtype=torch.float64)
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        return (low + (high - low) * u).exp()

    def c_noise(self, sigma: Tensor) -> Tensor:
        """1000 ln(sigma / 2) / 4: Table 1's, in the units of a timestep embedding as EDM's."""
        return 1000 * (sigma / 2).log() / 4

    def falling(self, ramp: Tensor) -> Tensor:
        """Geometric."""
        return self.sigma_max * (self.sigma_min / self.sigma_max) ** ramp
