"""Predictor and corrector: a step down, then Langevin steps (Song et al. 2021, arXiv:2011.13456)."""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from vol3d.diffusion.sampler_interface import Denoise, Draw, Levels, OnStep, ignore
from vol3d.diffusion.solver import Solver
from vol3d.diffusion.solvers.euler_maruyama import reverse_drift


class PredictorCorrector(Solver):
    """Mends each level's distribution before it goes on; wants hundreds of steps."""

    kind: Literal["predictor_corrector"] = "predictor_corrector"

    corrections: PositiveInt = 1
    """Langevin steps at each level (the paper's M)."""

    snr: PositiveFloat = 0.16
    """How long they are: the ratio of score to noise (the paper's r)."""

    def calls(self, steps: int) -> int:
        """Once a step, and at each level but the last once for each correction."""
        return steps + (steps - 1) * self.corrections

    def sample(
        self, denoise: Denoise, x: Tensor, levels: Levels, draw: Draw, on_step: OnStep = ignore
    ) -> Tensor:
        """From noise to image. The last step removes all noise (appendix G)."""
        alpha, sigma = levels.alpha.tolist(), levels.sigma.tolist()
        for i in range(levels.steps):
            D = denoise(x, levels.sigma[i])  # [B, C, X, Y, Z]
            if i + 1 == levels.steps:
                x = D
                on_step(i + 1, levels.steps, D)
                break
            x, added = reverse_drift(x, D, alpha[i], sigma[i], alpha[i + 1], sigma[i + 1])
            x = x + added**0.5 * draw()
            kept = alpha[i] / alpha[i + 1]
            for _ in range(self.corrections):  # Algorithms 4 and 5
                D2 = denoise(x, levels.sigma[i + 1])
                score = (alpha[i + 1] * D2 - x) / sigma[i + 1] ** 2
                z = draw()
                length = 2 * kept**2 * (self.snr * norm(z) / norm(score)) ** 2
                x = x + length * score + (2 * length).sqrt() * z
            on_step(i + 1, levels.steps, D)
        return x


def norm(x: Tensor) -> Tensor:
    """Euclidean, of each image, [B, 1, 1, 1, 1]; above 0."""
    return x.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, *[1] * (x.ndim - 1))
