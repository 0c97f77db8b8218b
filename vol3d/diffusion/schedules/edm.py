"""EDM's schedule: noise is added to an unshrunk image (Karras et al. 2022, arXiv:2206.00364)."""

from typing import ClassVar, Literal, Self

import torch
from pydantic import PositiveFloat, model_validator
from torch import Tensor

from vol3d.config import Config
from vol3d.diffusion.levels import Levels
from vol3d.errors import ConfigError


class EDM(Config):
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

    shrinks: ClassVar[bool] = False
    starts_blank: ClassVar[bool] = False

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(
                f"sigma_min must be below sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )
        return self

    def alpha(self, sigma: Tensor) -> Tensor:
        """The image is not shrunk: 1."""
        return torch.ones_like(sigma)

    def matching(self, ratio: Tensor) -> Tensor:
        """The sigma at which sigma / alpha is `ratio`, or the noisiest there is."""
        return ratio.clamp(max=self.sigma_max)

    def draw_sigma(self, rng: torch.Generator) -> Tensor:
        """A training noise level for one image: ln(sigma) is normal (Table 1)."""
        normal = torch.randn((), generator=rng, device=rng.device, dtype=torch.float64)
        return (self.p_mean + self.p_std * normal).exp()

    def c_noise(self, sigma: Tensor) -> Tensor:
        """1000 ln(sigma) / 4: Table 1's, in the units of a timestep embedding."""
        return 1000 * sigma.log() / 4

    def levels(self, steps: int) -> Levels:
        """Equation 5: evenly spaced in sigma^(1/rho) from sigma_max to sigma_min, then 0."""
        if steps < 1:
            raise ConfigError(f"steps: at least 1, got {steps}")
        ramp = torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)
        first, last = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        sigma = (first + ramp * (last - first)) ** self.rho
        sigma = torch.cat([sigma, sigma.new_zeros(1)])  # [steps + 1]
        return Levels(alpha=self.alpha(sigma), sigma=sigma)
