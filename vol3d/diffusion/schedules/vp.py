"""The variance-preserving SDE (Song et al. 2021, arXiv:2011.13456) as Karras et al. put it."""

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from vol3d.config import Config
from vol3d.diffusion.sampler_interface import Levels, ramp


class VP(Config):
    """DDPM in continuous time: dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw, t from 0 to 1.

    The "VP" column of Table 1 of Karras et al. 2022 (arXiv:2206.00364). x is shrunk, so that their
    sigma is our sigma / alpha, and their c_in, 1 / sqrt(sigma^2 + 1), leaves our x as it is.
    """

    kind: Literal["vp"] = "vp"

    beta_d: PositiveFloat = 19.9
    """beta(t) = beta_min + beta_d t."""

    beta_min: PositiveFloat = 0.1
    """beta at t = 0."""

    t_train: PositiveFloat = 1e-5
    """Smallest t in training."""

    t_last: PositiveFloat = 1e-3
    """Smallest t in sampling before none."""

    shrinks: ClassVar[bool] = True
    starts_blank: ClassVar[bool] = False

    def alpha(self, sigma: Tensor) -> Tensor:
        """The variance of x is kept: sqrt(1 - sigma^2)."""
        return (1 - sigma**2).clamp(min=0).sqrt()

    def matching(self, ratio: Tensor) -> Tensor:
        """The sigma at which sigma / alpha is `ratio`, or the noisiest there is."""
        noisiest = self.sigma(torch.ones_like(ratio))
        return (1 + ratio**-2).rsqrt().minimum(noisiest)

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - exp(-B)), where B is the integral of beta from 0 to t."""
        return (-torch.expm1(-(self.beta_d * t**2 / 2 + self.beta_min * t))).sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        """The t of a noise level."""
        B = -torch.log1p(-(sigma**2))
        return ((self.beta_min**2 + 2 * self.beta_d * B).sqrt() - self.beta_min) / self.beta_d

    def draw_sigma(self, rng: torch.Generator) -> Tensor:
        """A training noise level for one image: t is uniform."""
        u = torch.rand((), generator=rng, device=rng.device, dtype=torch.float64)
        return self.sigma(self.t_train + (1 - self.t_train) * u)

    def c_noise(self, sigma: Tensor) -> Tensor:
        """999 t: Table 1's, where M is 1000."""
        return 999 * self.time(sigma)

    def levels(self, steps: int) -> Levels:
        """Evenly spaced in t from 1 to `t_last`, then 0."""
        sigma = self.sigma(1 + ramp(steps) * (self.t_last - 1))
        sigma = torch.cat([sigma, sigma.new_zeros(1)])  # [steps + 1]
        return Levels(alpha=self.alpha(sigma), sigma=sigma)
