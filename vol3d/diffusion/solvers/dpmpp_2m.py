"""DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095): second order for one network call a step."""

import math
from typing import Literal

from torch import Tensor

from vol3d.diffusion.sampler_interface import Denoise, Draw, Levels, OnStep, ignore
from vol3d.diffusion.solver import Solver


class DPMpp2M(Solver):
    """Remembers the last estimate, which saves Heun's second call; good at 10 to 30 steps."""

    kind: Literal["dpmpp_2m"] = "dpmpp_2m"

    def sample(
        self, denoise: Denoise, x: Tensor, levels: Levels, draw: Draw, on_step: OnStep = ignore
    ) -> Tensor:
        """From noise to image; nfe = steps."""
        alpha, sigma = levels.alpha.tolist(), levels.sigma.tolist()
        D_before, h_before = None, math.inf
        for i in range(levels.steps):
            D = denoise(x, levels.sigma[i])  # [B, C, X, Y, Z]
            # h is the step in log(alpha / sigma), without end at pure noise and at the image.
            ratio = alpha[i] * sigma[i + 1] / (alpha[i + 1] * sigma[i])  # exp(-h)
            h = -math.log(ratio) if ratio > 0 else math.inf
            ahead = D
            if D_before is not None and h < math.inf:  # Algorithm 2; h_before without end: as D
                ahead = D + h / h_before / 2 * (D - D_before)
            x = sigma[i + 1] / sigma[i] * x + alpha[i + 1] * (1 - ratio) * ahead
            D_before, h_before = D, h
            on_step(i + 1, levels.steps, D)
        return x
