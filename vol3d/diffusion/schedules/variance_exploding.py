"""What EDM and the variance-exploding SDE share: x = x0 + sigma n."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from pydantic import PositiveFloat, model_validator
from torch import Tensor

from vol3d.config import Config
from vol3d.diffusion.sampler_interface import Levels, ramp


class VarianceExploding(Config, ABC):
    """Noise is added to an image that keeps its size; sigma is in units of the data."""

    sigma_min: PositiveFloat
    """Smallest noise level in sampling before none."""

    sigma_max: PositiveFloat
    """Noise level where sampling starts."""

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

    @abstractmethod
    def falling(self, ramp: Tensor) -> Tensor:
        """The noise level at 0 to 1 of the way from sigma_max to sigma_min."""

    def levels(self, steps: int) -> Levels:
        """From sigma_max to sigma_min, then 0."""
        sigma = self.falling(ramp(steps))
        sigma = torch.cat([sigma, sigma.new_zeros(1)])  # [steps + 1]
        return Levels(alpha=self.alpha(sigma), sigma=sigma)
