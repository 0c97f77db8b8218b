"""A learned variance of the reverse steps (Nichol & Dhariwal 2021, arXiv:2102.09672)."""

import math
from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from vol3d.config import Config
from vol3d.diffusion.reverse_step import Step, step
from vol3d.diffusion.sampler_interface import Process
from vol3d.diffusion.schedules.discrete import Discrete


class LearnedVariance(Config):
    """Twice the outputs: the second half says where each variance lies between its bounds.

    The solver `ddpm` with `variance: learned` samples with it.
    """

    kind: Literal["learned"] = "learned"

    vlb_weight: PositiveFloat = 0.001
    """The paper's lambda (eq. 16): weight of the variational bound, which trains the variance."""

    def objection(self, process: Process) -> str | None:
        """The bound is over neighbouring timesteps."""
        if isinstance(process, Discrete):
            return None
        return "the bound that trains it is over neighbouring timesteps, and this one has none"

    def loss(
        self, schedule: Discrete, x0: Tensor, D: Tensor, share: Tensor, sigma: Tensor
    ) -> Tensor:
        """vlb_weight times the estimated bound in bits per element, of each image, [B].

        Args:
            schedule: with timesteps.
            x0: clean images [B, C, X, Y, Z].
            D: denoised images; no gradient goes into them, so that the bound moves the variance only.
            share: where the log-variance lies, [B, C, X, Y, Z]; 0 is the small one, 1 the large.
            sigma: noise level of each image, [B] float64.
        """
        before = schedule.before(sigma)
        across = (-1,) + (1,) * (x0.ndim - 1)
        levels = (schedule.alpha(sigma), sigma, schedule.alpha(before), before)
        between = step(*(v.view(across).to(x0.device) for v in levels))
        log_p = log_variance(between, share, least(schedule))
        apart = (between.D_share * (x0 - D.detach())).square()
        log_q = between.small.clamp(min=1e-300).log()  # 0 where nothing lies before
        kl = (log_p - log_q + (between.small + apart) / log_p.exp() - 1) / 2  # [B, C, X, Y, Z]
        nll = (math.log(2 * math.pi) + log_p + apart / log_p.exp()) / 2
        first = (before == 0).view(across).to(x0.device)
        nats = torch.where(first, nll, kl).flatten(1).mean(1)
        return self.vlb_weight * schedule.num_train_timesteps * nats / math.log(2)


def log_variance(between: Step, share: Tensor, least: float) -> Tensor:
    """Equation 15: interpolated between the logarithms of the bounds, of which none is below `least`."""
    small = torch.as_tensor(between.small, dtype=torch.float64).clamp(min=least).log()
    large = torch.as_tensor(between.large, dtype=torch.float64).clamp(min=least).log()
    return small + share * (large - small)


def least(schedule: Discrete) -> float:
    """The smallest variance between two timesteps, which stands in for that before the first: 0."""
    first, second = schedule.levels(schedule.num_train_timesteps).sigma[[-2, -3]]
    return float(step(schedule.alpha(second), second, schedule.alpha(first), first).small)
