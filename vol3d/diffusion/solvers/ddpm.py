"""Ancestral sampling: each step draws from the posterior (Ho et al. 2020, arXiv:2006.11239)."""

from typing import Literal

from torch import Tensor

from vol3d.diffusion.reverse_step import step
from vol3d.diffusion.sampler_interface import Denoise, Draw, Levels, OnStep, ignore
from vol3d.diffusion.solver import Solver
from vol3d.diffusion.variance import log_variance


class DDPM(Solver):
    """Fresh noise at every step, as the paper samples; wants many steps, best all of them."""

    kind: Literal["ddpm"] = "ddpm"

    variance: Literal["small", "large", "learned"] = "small"
    """Of a step: the paper's two choices, right for a single image and for white noise; or what the
    network has learnt to put between them (needs a model with a learned variance)."""

    @property
    def needs_variance(self) -> bool:
        """Where it is asked for."""
        return self.variance == "learned"

    def sample(
        self, denoise: Denoise, x: Tensor, levels: Levels, draw: Draw, on_step: OnStep = ignore
    ) -> Tensor:
        """From noise to image; nfe = steps."""
        alpha, sigma = levels.alpha.tolist(), levels.sigma.tolist()
        for i in range(levels.steps):
            if self.variance == "learned":
                D, share = denoise.estimate(x, levels.sigma[i])
            else:
                D, share = denoise(x, levels.sigma[i]), float(self.variance == "large")
            down = step(alpha[i], sigma[i], alpha[i + 1], sigma[i + 1])
            x = down.x_share * x + down.D_share * D
            if i + 1 < levels.steps:
                x = x + (log_variance(down, share, least=0.0) / 2).exp().to(x) * draw()
            on_step(i + 1, levels.steps, D)
        return x
