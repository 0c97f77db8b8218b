"""What the network's output F means: eps, v, x0, flow or edm, and its way to the denoised image.

This is the only file that knows. For all of them the loss is the mean squared error between F and
`target`, and x = alpha x0 + sigma n is the noisy image. `gain` is |dD / dF|: how far an error of F
moves the denoised image. `alpha` and `sigma` are tensors that broadcast against x; nothing here
changes a dtype.
"""

from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from vol3d.config import Config, menu
from vol3d.diffusion.sampler_interface import Process

FADES = "it is made for an image that fades as noise comes in, and here the noise swamps it instead"


class Unscaled(Config):
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


class Preconditioned(Config):
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


Prediction = menu("predictions", Eps, V, X0, FlowVelocity, Preconditioned)
