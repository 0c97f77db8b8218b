"""Rectified flow's schedule: a straight line from image to noise (Liu et al. 2022, 2209.03003)."""

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from vol3d.config import Config
from vol3d.diffusion.sampler_interface import Levels
from vol3d.errors import ConfigError


class Flow(Config):
    """x = (1 - sigma) x0 + sigma n, with sigma from 0 (image) to 1 (noise)."""

    kind: Literal["flow"] = "flow"

    draw: Literal["logit_normal", "uniform"] = "logit_normal"
    """How sigma is drawn in training; logit_normal favours the middle (Esser et al. 2024)."""

    logit_mean: float = 0.0
    """Mean of logit(sigma) in training; above 0 is noisier. Has no effect with uniform."""

    logit_std: PositiveFloat = 1.0
    """Standard deviation of logit(sigma) in training. Has no effect with uniform."""

    shift: PositiveFloat = 1.0
    """Above 1 moves the sampling levels towards noise; ln(shift) is the matching logit_mean."""

    shrinks: ClassVar[bool] = True
    starts_blank: ClassVar[bool] = True

    def alpha(self, sigma: Tensor) -> Tensor:
        """The image fades as the noise comes in: 1 - sigma."""
        return 1 - sigma

    def matching(self, ratio: Tensor) -> Tensor:
        """The sigma at which sigma / alpha is `ratio`."""
        return 1 - 1 / (1 + ratio)

    def draw_sigma(self, rng: torch.Generator) -> Tensor:
        """A training noise level for one image (Esser et al. 2024, arXiv:2403.03206, eq. 19)."""
        if self.draw == "uniform":
            return torch.rand((), generator=rng, device=rng.device, dtype=torch.float64)
        normal = torch.randn((), generator=rng, device=rng.device, dtype=torch.float64)
        return (self.logit_mean + self.logit_std * normal).sigmoid()

    def c_noise(self, sigma: Tensor) -> Tensor:
        """1000 sigma, in the units of a timestep embedding."""
        return 1000 * sigma

    def levels(self, steps: int) -> Levels:
        """Evenly spaced from 1 to 0, then shifted (Esser et al. 2024, eq. 23)."""
        if steps < 1:
            raise ConfigError(f"steps: at least 1, got {steps}")
        sigma = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps  # [steps + 1]
        sigma = self.shift * sigma / (1 + (self.shift - 1) * sigma)
        return Levels(alpha=self.alpha(sigma), sigma=sigma)
