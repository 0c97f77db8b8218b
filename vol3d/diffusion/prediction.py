"""What the network's output F means: eps, v, x0, flow, edm or odds, and its way to the denoised image.

This is the only file that knows. For all but `odds` the loss is the mean squared error between F and
`target`, and `gain` is |dD / dF|: how far an error of F moves the denoised image. x = alpha x0 +
sigma n is the noisy image. `alpha` and `sigma` are tensors that broadcast against x; nothing here
changes a dtype.
"""

import math
from typing import Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from vol3d.config import Config, menu
from vol3d.diffusion.sampler_interface import Process

SMALLEST = 1e-6
"""The least variance of noise that evidence is divided by."""
FADES = "it is made for an image that fades as noise comes in, and here the noise swamps it instead"


class Regressed(Config):
    """What predictions share whose output is a number that is regressed."""

    def loss(self, F: Tensor, x0: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The squared error of F, of each voxel."""
        return (F - self.target(x0, n, alpha, sigma)).square()


class Unscaled(Regressed):
    """What predictions share whose network sees x as it is, which must not grow with sigma."""

    def scale_in(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(sigma)

    def objection(self, process: Process) -> str | None:
        """x, and with v the target, grows with sigma unless the image fades."""
        return None if process.shrinks else FADES


class Eps(Unscaled):
    """The network predicts the noise (Ho et al. 2020, arXiv:2006.11239, eq. 11 and 14)."""

    kind: Literal["eps"] = "eps"

    def target(self, x0: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """F = n."""
        return n

    def denoised(self, F: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """D = (x - sigma F) / alpha (eq. 15)."""
        return (x - sigma * F) / alpha

    def gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """sigma / alpha."""
        return sigma / alpha

    def objection(self, process: Process) -> str | None:
        """It cannot tell an image from pure noise."""
        if process.starts_blank:
            return "sampling starts at pure noise (alpha 0), of which the noise says nothing new"
        return None


class V(Unscaled):
    """The network predicts the velocity v (Salimans & Ho 2022, arXiv:2202.00512, appendix D)."""

    kind: Literal["v"] = "v"

    def target(self, x0: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """F = alpha n - sigma x0."""
        return alpha * n - sigma * x0

    def denoised(self, F: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """D = (alpha x - sigma F) / (alpha^2 + sigma^2); the divisor is 1 in a DDPM process."""
        return (alpha * x - sigma * F) / (alpha**2 + sigma**2)

    def gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """sigma / (alpha^2 + sigma^2)."""
        return sigma / (alpha**2 + sigma**2)


class X0(Unscaled):
    """The network predicts the clean image itself."""

    kind: Literal["x0"] = "x0"

    def target(self, x0: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """F = x0."""
        return x0

    def denoised(self, F: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """D = F."""
        return F

    def gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(sigma)


class FlowVelocity(Unscaled):
    """The network predicts the way from image to noise (Liu et al. 2022, arXiv:2209.03003)."""

    kind: Literal["flow"] = "flow"

    def target(self, x0: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """F = n - x0."""
        return n - x0

    def denoised(self, F: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """D = (x - sigma F) / (alpha + sigma); the divisor is 1 in a flow."""
        return (x - sigma * F) / (alpha + sigma)

    def gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """sigma / (alpha + sigma)."""
        return sigma / (alpha + sigma)


class Preconditioned(Regressed):
    """The network's input and output keep unit variance (Karras et al. 2022, arXiv:2206.00364)."""

    kind: Literal["edm"] = "edm"

    sigma_data: PositiveFloat = 1.0
    """Standard deviation of the clean data; 1 for standardised latents."""

    def scale_in(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """c_in of Table 1."""
        return (sigma**2 + self.sigma_data**2).rsqrt()

    def target(self, x0: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """F = (x0 - c_skip x) / c_out (eq. 8); with it the loss weight is Table 1's 1 / c_out^2."""
        c_skip, c_out = self.skip_and_out(sigma)
        return (x0 - c_skip * (alpha * x0 + sigma * n)) / c_out

    def denoised(self, F: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """D = c_skip x + c_out F (eq. 7)."""
        c_skip, c_out = self.skip_and_out(sigma)
        return c_skip * x + c_out * F

    def gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """c_out."""
        return self.skip_and_out(sigma)[1]

    def objection(self, process: Process) -> str | None:
        """Its scalings are those of x = x0 + sigma n."""
        return "its scalings are for an image that is not shrunk" if process.shrinks else None

    def skip_and_out(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """c_skip and c_out of Table 1."""
        total = sigma**2 + self.sigma_data**2
        return self.sigma_data**2 / total, sigma * self.sigma_data * total.rsqrt()


class Odds(Unscaled):
    """The network predicts the log-odds that a digit of a label is set, but for what its own voxel says.

    For label maps, which are nothing but digits of `low` and 1. Noise is independent between voxels, so
    by Bayes' rule the log-odds given all of x are those given all other voxels, plus the evidence of this
    one, which is known: ((x - alpha low)^2 - (x - alpha)^2) / (2 sigma^2). The network learns the former
    alone. Cross-entropy is least at the same D as the squared error, E[x0 | x] (variational flow
    matching, Eijkelboom et al. 2024, arXiv:2406.04843; Dieleman et al. 2022, arXiv:2211.15089), but an
    unlikely digit costs a network no precision: where a structure is small, errors of the empty rest do
    not drown it.
    """

    kind: Literal["odds"] = "odds"

    low: Literal[-1, 0] = -1
    """The number of a digit that is not set, as in target.low."""
    prior: float = Field(default=0.5, gt=0, lt=1)
    """The probability that a digit is set, before anything is learnt; of a rare structure about its
    share of the voxels."""

    def target(self, x0: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """1 for a digit that is set, 0 for one that is not."""
        return (x0 - self.low) / (1 - self.low)

    def loss(self, F: Tensor, x0: Tensor, n: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The cross-entropy of each digit, in nats."""
        odds = self.odds(F, alpha * x0 + sigma * n, alpha, sigma)
        digit = self.target(x0, n, alpha, sigma)
        return binary_cross_entropy_with_logits(odds, digit, reduction="none")

    def denoised(self, F: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """D = low + (1 - low) p."""
        return self.low + (1 - self.low) * self.odds(F, x, alpha, sigma).sigmoid()

    def gain(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """1: what is weighted is the denoised image, as with x0."""
        return torch.ones_like(sigma)

    def odds(self, F: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Log-odds: those of the prior, what the network adds to them, and the voxel's own evidence."""
        evidence = (x - alpha * self.low).square() - (x - alpha).square()
        prior = math.log(self.prior / (1 - self.prior))
        return F + prior + evidence / (2 * sigma.square().clamp(min=SMALLEST))


Prediction = menu("predictions", Eps, V, X0, FlowVelocity, Preconditioned, Odds)
