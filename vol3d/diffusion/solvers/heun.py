"""Heun's second-order method: Algorithm 1 of Karras et al. 2022 (arXiv:2206.00364)."""

from typing import Literal

from torch import Tensor

from vol3d.config import Config
from vol3d.diffusion.levels import Denoise, Draw, Levels, OnStep, ignore


class Heun(Config):
    """Two network calls a step; the more accurate deterministic choice for the same calls."""

    kind: Literal["heun"] = "heun"

    def sample(
        self, denoise: Denoise, x: Tensor, levels: Levels, draw: Draw, on_step: OnStep = ignore
    ) -> Tensor:
        """From noise to image; nfe = 2 steps - 1."""
        alpha, sigma = levels.alpha.tolist(), levels.sigma.tolist()
        for i in range(levels.steps):
            D = denoise(x, levels.sigma[i])  # [B, C, X, Y, Z]
            n = (x - alpha[i] * D) / sigma[i]
            euler = alpha[i + 1] * D + sigma[i + 1] * n
            if i + 1 == levels.steps:  # n has no meaning at sigma 0: the last step is Euler's
                x = euler
            else:  # the trapezoid rule for dx = D dalpha + n dsigma
                D2 = denoise(euler, levels.sigma[i + 1])
                n2 = (euler - alpha[i + 1] * D2) / sigma[i + 1]
                x = x + (alpha[i + 1] - alpha[i]) / 2 * (D + D2)
                x = x + (sigma[i + 1] - sigma[i]) / 2 * (n + n2)
            on_step(i + 1, levels.steps, D)
        return x
