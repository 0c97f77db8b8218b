"""Euler and Maruyama's method on the reverse SDE (Song et al. 2021, arXiv:2011.13456)."""

from typing import Literal

from torch import Tensor

from vol3d.diffusion.sampler_interface import Denoise, Draw, Levels, OnStep, ignore
from vol3d.diffusion.solver import Solver


def reverse_drift(
    x: Tensor, D: Tensor, alpha: float, sigma: float, alpha2: float, sigma2: float
) -> tuple[Tensor, float]:
    """x moved down one level by the reverse SDE, and the variance of the noise that goes with it.

    Equation 46, whose forward step is x -> kept x + sqrt(added) noise: for a DDPM process `added`
    is beta, for an unshrunk one the difference of sigma^2.
    """
    kept = alpha / alpha2
    added = sigma**2 - kept**2 * sigma2**2
    score = (alpha * D - x) / sigma**2
    return (2 - kept) * x + added * score, added


class EulerMaruyama(Solver):
    """The plain way to follow an SDE down; wants hundreds of steps."""

    kind: Literal["euler_maruyama"] = "euler_maruyama"

    def sample(
        self, denoise: Denoise, x: Tensor, levels: Levels, draw: Draw, on_step: OnStep = ignore
    ) -> Tensor:
        """From noise to image; nfe = steps. The last step removes all noise (appendix G)."""
        alpha, sigma = levels.alpha.tolist(), levels.sigma.tolist()
        for i in range(levels.steps):
            D = denoise(x, levels.sigma[i])  # [B, C, X, Y, Z]
            if i + 1 == levels.steps:
                x = D
            else:
                x, added = reverse_drift(x, D, alpha[i], sigma[i], alpha[i + 1], sigma[i + 1])
                x = x + added**0.5 * draw()
            on_step(i + 1, levels.steps, D)
        return x
