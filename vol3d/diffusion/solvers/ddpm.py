"""Ancestral sampling: each step draws from the posterior (Ho et al. 2020, arXiv:2006.11239)."""

from typing import Literal

from torch import Tensor

from vol3d.config import Config
from vol3d.diffusion.levels import Denoise, Draw, Levels, OnStep, ignore


class DDPM(Config):
    """Fresh noise at every step, as the paper samples; wants many steps, best all of them."""

    kind: Literal["ddpm"] = "ddpm"

    def sample(
        self, denoise: Denoise, x: Tensor, levels: Levels, draw: Draw, on_step: OnStep = ignore
    ) -> Tensor:
        """From noise to image; nfe = steps."""
        alpha, sigma = levels.alpha.tolist(), levels.sigma.tolist()
        for i in range(levels.steps):
            D = denoise(x, levels.sigma[i])  # [B, C, X, Y, Z]
            # Equations 6 and 7 between two visited levels, s after t, of any process:
            # `kept` is alpha_t / alpha_s, and `added` the variance that noising from s to t adds.
            kept = alpha[i] / alpha[i + 1]
            added = sigma[i] ** 2 - kept**2 * sigma[i + 1] ** 2
            x_share = kept * sigma[i + 1] ** 2 / sigma[i] ** 2
            x = x_share * x + alpha[i + 1] * added / sigma[i] ** 2 * D
            if i + 1 < levels.steps:
                x = x + added**0.5 * sigma[i + 1] / sigma[i] * draw()
            on_step(i + 1, levels.steps, D)
        return x
