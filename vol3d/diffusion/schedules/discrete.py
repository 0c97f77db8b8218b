"""What DDPM's schedules share: x = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) n, at T timesteps."""

from abc import abstractmethod
from functools import cache
from typing import ClassVar, Literal, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor

from vol3d.config import Config
from vol3d.diffusion.sampler_interface import Levels
from vol3d.errors import ConfigError


class Discrete(Config):
    """A DDPM process (Ho et al. 2020, arXiv:2006.11239); a schedule says what its betas are."""

    num_train_timesteps: PositiveInt = 1000
    """Number T of noise levels in training."""

    spacing: Literal["trailing", "leading", "linspace"] = "trailing"
    """Timesteps of fewer steps: from T-1 in even strides, from 0 in even strides, or T-1 to 0."""

    zero_terminal_snr: bool = False
    """Shift the levels so that the last timestep is pure noise (Lin et al. 2024, arXiv:2305.08891,
    Algorithm 1): what sampling starts from was then seen in training."""

    shrinks: ClassVar[bool] = True

    @property
    def starts_blank(self) -> bool:
        """Whether sampling starts from noise that holds nothing of an image."""
        return self.zero_terminal_snr

    @model_validator(mode="after")
    def _check_ends_before_pure_noise(self) -> Self:
        table = sigma_table(self)
        seen = table[:-1] if self.zero_terminal_snr else table
        if (seen >= 1).any() or (table.diff() <= 0).any():
            raise ValueError(
                f"the last of {self.num_train_timesteps} timesteps hold nothing but noise; "
                "use fewer timesteps or smaller betas"
            )
        return self

    @abstractmethod
    def betas(self) -> Tensor:
        """Variance that each timestep adds, [T] float64."""

    def alpha(self, sigma: Tensor) -> Tensor:
        """The variance of x is kept: sqrt(1 - sigma^2)."""
        return (1 - sigma**2).clamp(min=0).sqrt()

    def matching(self, ratio: Tensor) -> Tensor:
        """The sigma at which sigma / alpha is `ratio`, or the noisiest there is."""
        return (1 + ratio**-2).rsqrt().clamp(max=sigma_table(self)[-1])

    def draw_sigma(self, rng: torch.Generator) -> Tensor:
        """A training noise level for one image: that of a uniformly drawn timestep."""
        t = torch.randint(self.num_train_timesteps, (), generator=rng, device=rng.device)
        return sigma_table(self).to(rng.device)[t].clone()

    def c_noise(self, sigma: Tensor) -> Tensor:
        """The timestep t whose noise level is nearest."""
        table = sigma_table(self).to(sigma.device)
        sigma = sigma.to(table.dtype).contiguous()
        above = torch.searchsorted(table, sigma).clamp(max=len(table) - 1)
        below = (above - 1).clamp(min=0)
        t = torch.where(sigma - table[below] < table[above] - sigma, below, above)
        return t.to(sigma)

    def before(self, sigma: Tensor) -> Tensor:
        """The noise level of the timestep before; 0 before the first."""
        table = sigma_table(self).to(sigma.device)
        return torch.cat([table.new_zeros(1), table])[self.c_noise(sigma).long()]

    def levels(self, steps: int) -> Levels:
        """The levels of `steps` of the T timesteps, noisiest first, then 0."""
        sigma = sigma_table(self)[self.timesteps(steps)]
        sigma = torch.cat([sigma, sigma.new_zeros(1)])  # [steps + 1]
        return Levels(alpha=self.alpha(sigma), sigma=sigma)

    def timesteps(self, steps: int) -> Tensor:
        """The timesteps that a sampler of `steps` steps visits, [steps], descending from 0..T-1.

        The names are those of Lin et al. 2024 (arXiv:2305.08891, Table 2), who show that sampling
        must start at T-1 ("trailing" or "linspace"), where training ends.
        """
        T = self.num_train_timesteps
        if not 1 <= steps <= T:
            raise ConfigError(f"steps: 1 to num_train_timesteps ({T}), got {steps}")
        i = torch.arange(steps, dtype=torch.float64)
        if self.spacing == "trailing":
            return (T - i * T / steps).round().long() - 1
        if self.spacing == "leading":
            return i.long().flip(0) * (T // steps)
        return torch.linspace(T - 1, 0, steps, dtype=torch.float64).round().long()


@cache
def sigma_table(schedule: Discrete) -> Tensor:
    """The sigma = sqrt(1 - alpha_bar) of every timestep, [T] float64, ascending."""
    alpha = (1 - schedule.betas()).cumprod(0).sqrt()
    if schedule.zero_terminal_snr:
        alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return (1 - alpha**2).sqrt()
