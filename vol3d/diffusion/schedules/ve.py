"""The variance-exploding SDE (Song et al. 2021, arXiv:2011.13456) as Karras et al. put it."""

import math
from typing import ClassVar, Literal, Self

import torch
from pydantic import PositiveFloat, model_validator
from torch import Tensor

from vol3d.config import Config
from vol3d.diffusion.levels import Levels
from vol3d.errors import ConfigError


class VE(Config):
    """x = x0 + sigma n, with every order of magnitude of sigma as likely in training.

    The "VE" column of Table 1 of Karras et al. 2022 (arXiv:2206.00364); with `eps` the network is
    the score times -sigma, and sees x unscaled, as there.
    """

    kind: Literal["ve"] = "ve"

    sigma_min: PositiveFloat = 0.02
    """Smallest noise level."""

    sigma_max: PositiveFloat = 100.0
    """Largest noise level."""

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
        """A training noise level for one image: ln(sigma) is uniform."""
        u = torch.rand((), generator=rng, device=rng.device, dtype=torch.float64)
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        return (low + (high - low) * u).exp()

    def c_noise(self, sigma: Tensor) -> Tensor:
        """1000 ln(sigma / 2) / 4: Table 1's, in the units of a timestep embedding as EDM's."""
        return 1000 * (sigma / 2).log() / 4

    def levels(self, steps: int) -> Levels:
        """Geometric from sigma_max to sigma_min, then 0."""
        if steps < 1:
            raise ConfigError(f"steps: at least 1, got {steps}")
        ramp = torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)
        sigma = self.sigma_max * (self.sigma_min / self.sigma_max) ** ramp
        sigma = torch.cat([sigma, sigma.new_zeros(1)])  # [steps + 1]
        return Levels(alpha=self.alpha(sigma), sigma=sigma)
