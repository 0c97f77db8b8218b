"""Euler's method on the probability-flow ODE: one network call a step, no randomness."""

from typing import Literal

from torch import Tensor

from vol3d.diffusion.sampler_interface import Denoise, Draw, Levels, OnStep, ignore
from vol3d.diffusion.solver import Solver


class Euler(Solver):
    """Follows dx = D dalpha + n dsigma by its tangent; the same as DDIM with eta 0."""

    kind: Literal["euler"] = "euler"

    def sample(
        self, denoise: Denoise, x: Tensor, levels: Levels, draw: Draw, on_step: OnStep = ignore
    ) -> Tensor:
        """From noise to image; nfe = steps."""
        alpha, sigma = levels.alpha.tolist(), levels.sigma.tolist()
        for i in range(levels.steps):
            D = denoise(x, levels.sigma[i])  # [B, C, X, Y, Z]
            n = (x - alpha[i] * D) / sigma[i]
            x = alpha[i + 1] * D + sigma[i + 1] * n  # = x + D dalpha + n dsigma
            on_step(i + 1, levels.steps, D)
        return x
