"""DDIM: from deterministic to ancestral by one number (Song et al. 2021, arXiv:2010.02502)."""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from vol3d.diffusion.sampler_interface import Denoise, Draw, Levels, OnStep, ignore
from vol3d.diffusion.solver import Solver


class DDIM(Solver):
    """One network call a step; good at 20 to 100 steps."""

    kind: Literal["ddim"] = "ddim"

    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fresh noise at each step: 0 is deterministic, 1 is DDPM's."""

    def sample(
        self, denoise: Denoise, x: Tensor, levels: Levels, draw: Draw, on_step: OnStep = ignore
    ) -> Tensor:
        """From noise to image; nfe = steps."""
        alpha, sigma = levels.alpha.tolist(), levels.sigma.tolist()
        for i in range(levels.steps):
            D = denoise(x, levels.sigma[i])  # [B, C, X, Y, Z]
            n = (x - alpha[i] * D) / sigma[i]
            # Equation 16 in lambda = sigma / alpha, for any process; finite where alpha is 0.
            ratio = sigma[i + 1] * alpha[i] / (alpha[i + 1] * sigma[i])  # lambda_s / lambda_t
            fresh = self.eta * sigma[i + 1] * (1 - ratio**2) ** 0.5
            # Equation 12.
            x = alpha[i + 1] * D + (sigma[i + 1] ** 2 - fresh**2) ** 0.5 * n
            if fresh > 0:
                x = x + fresh * draw()
            on_step(i + 1, levels.steps, D)
        return x
