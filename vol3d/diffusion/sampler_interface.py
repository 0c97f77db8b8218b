"""The noise levels that a sampler visits, and the functions that it is handed.

A noisy image is x = alpha x0 + sigma n, with n standard normal. `alpha` is a function of `sigma`
(the schedule's), so a noise level is known by its `sigma`.

The contract. A solver knows of a model nothing but `denoise(x, sigma)`, its estimate of x0, and every
step that it makes is a blend of x, that estimate and fresh noise. It asks at each level of `levels` at
least once, from the noisiest down, and its last step gives the last estimate. So whatever is to happen
between two steps is a denoiser around a denoiser, put there from outside (`Around`), and works with every
solver: a projection or known voxels change the estimate (`diffusion/inpainting.py`), a gradient is added
to it, tiles are denoised one by one and put together, guidance asks several times. A wrapper of a model
with a learned variance has `estimate` too, which gives the share of the variance beside the estimate.
It keeps x's shape, type and device, and gives the same for the same x and sigma, since solvers may ask
twice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vol3d.errors import ConfigError

Denoise = Callable[[Tensor, Tensor], Tensor]
"""`denoise(x [B, C, X, Y, Z], sigma [])`: the estimate of x0, whatever the network predicts."""

Around = Callable[[Denoise], Denoise]
"""`around(denoise)`: a denoiser around a denoiser; how a solver is told of more than the model."""

Draw = Callable[[], Tensor]
"""`draw()`: standard normal noise of x's shape, each image from its own generator."""

OnStep = Callable[[int, int, Tensor], None]
"""`on_step(i, steps, denoised)`: told after step i of steps (the first is 1)."""


class Process(Protocol):
    """What a schedule says of itself to those who must fit it.

    Attributes:
        shrinks: the image fades as noise comes in (alpha falls below 1).
        starts_blank: sampling starts where nothing of the image is left (alpha 0).
    """

    kind: str
    shrinks: bool
    starts_blank: bool

    def levels(self, steps: int) -> "Levels":
        """What a sampler visits."""


@dataclass(frozen=True)
class Levels:
    """From the noisiest level down: `steps` levels that the network visits, then none (sigma 0)."""

    alpha: Tensor  # [steps + 1] float64
    sigma: Tensor  # [steps + 1] float64, descending to 0

    def __post_init__(self) -> None:
        assert self.alpha.shape == self.sigma.shape
        assert self.alpha.dtype == self.sigma.dtype == torch.float64
        assert (self.sigma.diff() < 0).all(), f"sigma must fall from level to level: {self.sigma}"
        assert self.sigma[-1] == 0, "the last level is without noise"
        assert self.alpha[-1] == 1, "the last level is the image itself"

    @property
    def steps(self) -> int:
        """Number of levels that the network visits."""
        return len(self.sigma) - 1


def ramp(steps: int) -> Tensor:
    """Where each of some steps stands between the first, 0, and the last, 1: [steps] float64."""
    if steps < 1:
        raise ConfigError(f"steps: at least 1, got {steps}")
    return torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)


def ignore(i: int, steps: int, denoised: Tensor) -> None:
    """The `on_step` of one who does not listen."""


def as_it_is(denoise: Denoise) -> Denoise:
    """Nothing around it."""
    return denoise
