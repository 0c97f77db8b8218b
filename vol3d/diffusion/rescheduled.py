"""A denoiser of one schedule, asked along another: the two differ in scale and in spacing alone."""

from typing import Any

from torch import Tensor, float64

from vol3d.diffusion.condition import Condition
from vol3d.diffusion.denoiser import NOTHING, Denoiser


class Rescheduled:
    """A trained denoiser that a solver may ask along the noise levels of another schedule.

    What a noisy image x = alpha x0 + sigma n holds of x0 depends on sigma / alpha alone (Karras et
    al. 2022, arXiv:2206.00364, section 2 and appendix B): the image is brought to the level of the
    trained schedule at which that is the same, by one factor.
    """

    def __init__(self, denoiser: Denoiser, schedule: Any) -> None:
        self.denoiser, self.schedule = denoiser, schedule

    def __call__(self, x: Tensor, sigma: Tensor, cond: Condition = NOTHING) -> Tensor:
        """The estimate of x0, [B, C, X, Y, Z]; `sigma` is of the schedule in use."""
        return self.estimate(x, sigma, cond)[0]

    def estimate(
        self, x: Tensor, sigma: Tensor, cond: Condition = NOTHING
    ) -> tuple[Tensor, Tensor | None]:
        """See `Denoiser.estimate`."""
        sigma = sigma.to(float64)
        trained = self.denoiser.schedule.matching(sigma / self.schedule.alpha(sigma))
        scale = (trained / sigma).to(x).view(-1, *(1,) * (x.ndim - 1))
        return self.denoiser.estimate(x * scale, trained, cond)
