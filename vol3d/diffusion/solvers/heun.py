"""Heun's second-order method: Algorithms 1 and 2 of Karras et al. 2022 (arXiv:2206.00364)."""

import math
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from vol3d.diffusion.sampler_interface import Denoise, Draw, Levels, OnStep, Process, ignore
from vol3d.diffusion.solver import Solver


class Heun(Solver):
    """Two network calls a step; the more accurate deterministic choice for the same calls."""

    kind: Literal["heun"] = "heun"

    churn: NonNegativeFloat = 0.0
    """Noise put back before each step, spread over all of them (S_churn); 0 is deterministic."""

    churn_min: NonNegativeFloat = 0.0
    """Lowest noise level that is churned (S_tmin)."""

    churn_max: PositiveFloat | None = None
    """Highest noise level that is churned (S_tmax); null has no limit."""

    churn_noise: PositiveFloat = 1.0
    """Standard deviation of what is put back (S_noise); a little above 1 makes up for lost detail."""

    def calls(self, steps: int) -> int:
        """Twice a step, but once at the last, which is Euler's."""
        return 2 * steps - 1

    def objection(self, process: Process) -> str | None:
        """Algorithm 2 is for x = x0 + sigma n."""
        if self.churn and process.shrinks:
            return "churn is for an image that is not shrunk; take churn=0"
        return None

    def sample(
        self, denoise: Denoise, x: Tensor, levels: Levels, draw: Draw, on_step: OnStep = ignore
    ) -> Tensor:
        """From noise to image; nfe = 2 steps - 1."""
        alpha, sigma = levels.alpha.tolist(), levels.sigma.tolist()
        gamma = min(self.churn / levels.steps, math.sqrt(2) - 1)
        highest = math.inf if self.churn_max is None else self.churn_max
        for i in range(levels.steps):
            here, a, s = levels.sigma[i], alpha[i], sigma[i]
            if gamma > 0 and self.churn_min <= s <= highest:  # up to sigma hat
                here = here * (1 + gamma)
                x = x + self.churn_noise * math.sqrt(float(here) ** 2 - s**2) * draw()
                s = float(here)
            D = denoise(x, here)  # [B, C, X, Y, Z]
            n = (x - a * D) / s
            euler = alpha[i + 1] * D + sigma[i + 1] * n
            if i + 1 == levels.steps:  # n has no meaning at sigma 0: the last step is Euler's
                x = euler
            else:  # the trapezoid rule for dx = D dalpha + n dsigma
                D2 = denoise(euler, levels.sigma[i + 1])
                n2 = (euler - alpha[i + 1] * D2) / sigma[i + 1]
                x = x + (alpha[i + 1] - a) / 2 * (D + D2)
                x = x + (sigma[i + 1] - s) / 2 * (n + n2)
            on_step(i + 1, levels.steps, D)
        return x
