"""EDM's schedule: noise is added to an unshrunk image (Karras et al. 2022, arXiv:2206.00364)."""

from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from vol3d.diffusion.schedules.variance_exploding import VarianceExploding


class EDM(VarianceExploding):
    """x = x0 + sigma n, with sigma in units of the data."""

    kind: Literal["edm"] = "edm"

    p_mean: float = -1.2
    """Mean of ln(sigma) in training. Table 1's value is for data of standard deviation 0.5."""

    p_std: PositiveFloat = 1.2
    """Standard deviation of ln(sigma) in training."""

    sigma_min: PositiveFloat = 0.002
    """Smallest noise level in sampling before none."""

    sigma_max: PositiveFloat = 80.0
    """Noise level where sampling starts."""

    rho: PositiveFloat = 7.0
    """How much the levels crowd near sigma_min; 1 is evenly spaced."""

    def draw_sigma(self, rng: torch.Generator) -> Tensor:
        """A training noise level for one image: ln(sigma) is normal (Table 1)."""
        normal = torch.randn((), generator=rng, device=rng.device, dtype=torch.float64)
        return (self.p_mean + self.p_std * normal).exp()

    def c_noise(self, sigma: Tensor) -> Tensor:
        """1000 ln(sigma) / 4: Table 1's, in the units of a timestep embedding."""
        return 1000 * sigma.log() / 4

    def falling(self, ramp: Tensor) -> Tensor:
        """Equation 5: evenly spaced in sigma^(1/rho)."""
        first, last = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        return (first + ramp * (last - first)) ** self.rho
