"""How much each noise level counts in the loss."""

from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from vol3d.config import Config, menu


class Uniform(Config):
    """The mean squared error of the network's output as it is.

    Every column of Table 1 of Karras et al. 2022 (arXiv:2206.00364) comes to that.
    """

    kind: Literal["uniform"] = "uniform"

    def weight(self, alpha: Tensor, sigma: Tensor, gain: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(sigma)


class MinSNR(Config):
    """Errors of the denoised image count by the signal-to-noise ratio, but never more than gamma.

    Hang et al. 2023 (arXiv:2303.09556), section 3.4: min(SNR, gamma) for a network that predicts
    the image, and what that comes to for one that predicts something else.
    """

    kind: Literal["min_snr"] = "min_snr"

    gamma: PositiveFloat = 5.0
    """Where the ratio is cut off."""

    def weight(self, alpha: Tensor, sigma: Tensor, gain: Tensor) -> Tensor:
        """min(SNR, gamma) (dD / dF)^2."""
        return (alpha / sigma).square().clamp(max=self.gamma) * gain**2


Weighting = menu("weightings", Uniform, MinSNR)
