"""The channel port: covariates as flat images beside the noisy latent."""

from typing import Literal

import torch
from einops import repeat
from torch import Tensor

from vol3d.diffusion.condition import Condition, Ports
from vol3d.diffusion.conditioning import Grid3
from vol3d.diffusion.covariate_conditioning import CovariateConditioning, CovariateModule


class Channels(CovariateConditioning):
    """Each number fills a channel beside the latent's (BrainLDM, Pinaya et al. 2022, 2209.07162)."""

    kind: Literal["channels"] = "channels"

    def ports(self, widths: list[int]) -> Ports:
        """A channel a number."""
        return Ports(channels=sum(widths))

    def build(self, widths: list[int]) -> CovariateModule:
        """Nothing to learn: the network's first convolution does that."""
        return ChannelModule()


class ChannelModule(CovariateModule):
    """Numbers -> flat channels."""

    def of_rows(self, rows: list[Tensor], shape: Grid3) -> Condition:
        """[B, width] each -> channels [B, sum of widths, X, Y, Z]."""
        x, y, z = shape
        flat = repeat(torch.cat(rows, dim=1), "b c -> b c x y z", x=x, y=y, z=z)
        return Condition(channels=flat)
