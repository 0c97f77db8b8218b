"""Pseudo linear multistep: PNDM (Liu et al. 2022, arXiv:2202.09778), as latent diffusion starts it."""

from typing import Literal

from torch import Tensor

from vol3d.diffusion.sampler_interface import Denoise, Draw, Levels, OnStep, Process, ignore
from vol3d.diffusion.solver import Solver

BLENDS = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Adams and Bashforth's weights of the newest noise estimates, first to fourth order (eq. 12)."""
LEAST_ALPHA = 1e-3
"""Where sampling may start: at 5e-5 (cosine) it ran away, at 6e-3 (vp) it does well."""


class PNDM(Solver):
    """DDIM's step with a blend of the last four noise estimates: good at 20 to 100 steps.

    The first step takes the mean of the estimates at both its ends, the next two blend two and
    three (Rombach et al. 2022's "PLMS"), where the paper starts by Runge and Kutta.
    """

    kind: Literal["pndm"] = "pndm"

    def calls(self, steps: int) -> int:
        """Once a step, and once more at the first."""
        return steps + (steps > 1)

    def objection(self, process: Process) -> str | None:
        """It blends noise estimates, which say next to nothing of the image in next to pure noise."""
        start = float(process.levels(1).alpha[0])
        if start < LEAST_ALPHA:
            return (
                f"it blends estimates of the noise, whose errors are divided by alpha, and sampling "
                f"starts at pure noise (alpha {start:.0e})"
            )
        return None

    def sample(
        self, denoise: Denoise, x: Tensor, levels: Levels, draw: Draw, on_step: OnStep = ignore
    ) -> Tensor:
        """From noise to image; nfe = steps + 1."""
        alpha, sigma = levels.alpha.tolist(), levels.sigma.tolist()

        def transfer(n: Tensor, i: int) -> Tensor:
            """Equation 11: DDIM's step from level i to i + 1."""
            return alpha[i + 1] / alpha[i] * (x - sigma[i] * n) + sigma[i + 1] * n

        newest: list[Tensor] = []
        for i in range(levels.steps):
            D = denoise(x, levels.sigma[i])  # [B, C, X, Y, Z]
            newest = [(x - alpha[i] * D) / sigma[i], *newest[:3]]
            n = sum(w * e for w, e in zip(BLENDS[len(newest) - 1], newest, strict=True))
            if i == 0 and levels.steps > 1:
                trial = transfer(n, i)
                n_trial = (trial - alpha[1] * denoise(trial, levels.sigma[1])) / sigma[1]
                n = (n + n_trial) / 2
            x = transfer(n, i)
            on_step(i + 1, levels.steps, D)
        return x
