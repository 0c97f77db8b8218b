"""What every solver is: a way from noise to image that sees nothing but a denoiser."""

from abc import ABC, abstractmethod

from torch import Tensor

from vol3d.config import Config
from vol3d.diffusion.sampler_interface import Denoise, Draw, Levels, OnStep, Process, ignore


class Solver(Config, ABC):
    """See `vol3d.diffusion.solvers` for what goes in and out."""

    @abstractmethod
    def sample(
        self, denoise: Denoise, x: Tensor, levels: Levels, draw: Draw, on_step: OnStep = ignore
    ) -> Tensor:
        """From noise to image."""

    @property
    def needs_variance(self) -> bool:
        """Whether the model must have learnt the variance of its steps."""
        return False

    def calls(self, steps: int) -> int:
        """How often the denoiser is asked: once a step."""
        return steps

    def objection(self, process: Process) -> str | None:
        """Why it cannot work with a process; None if it can."""
        return None
