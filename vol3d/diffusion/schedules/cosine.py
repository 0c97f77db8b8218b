"""The cosine schedule (Nichol & Dhariwal 2021, arXiv:2102.09672): noise comes in more gently."""

import math
from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from vol3d.diffusion.schedules.discrete import Discrete


class Cosine(Discrete):
    """alpha_bar follows a squared cosine (eq. 17)."""

    kind: Literal["cosine"] = "cosine"

    offset: PositiveFloat = 0.008
    """The paper's s: keeps the first timesteps from adding too little noise."""

    def betas(self) -> Tensor:
        """1 - alpha_bar(t) / alpha_bar(t - 1), at most 0.999 as the paper has it, [T]."""
        t = torch.arange(self.num_train_timesteps + 1, dtype=torch.float64)
        angle = (t / self.num_train_timesteps + self.offset) / (1 + self.offset) * math.pi / 2
        alpha_bar = angle.cos() ** 2
        return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
