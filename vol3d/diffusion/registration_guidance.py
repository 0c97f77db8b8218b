"""A denoiser beside a registrar, trained together: what it makes of two images guides the deformation.

DiffuseMorph (Kim et al. 2022, ECCV, arXiv:2112.05149): a denoiser sees the moving image, the fixed one,
and the fixed one with noise, which it is to find; its answer is an input of the deformation network.
FSDiffReg (Qin and Li 2023, MICCAI, arXiv:2307.12035): its features guide those of the deformation network
level by level, and its answer says which voxels' similarity counts. In both, nothing is sampled to
register: the denoiser is asked once, with no noise.

Here both images take both parts, so that a symmetric network stays symmetric; the answer stands beside
the images and not in the place of the fixed one; and the path is that of a `Deformation`.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from vol3d.config import Config, menu
from vol3d.diffusion.schedules import Schedule
from vol3d.diffusion.schedules.vp import VP
from vol3d.errors import ConfigError
from vol3d.models.denoisers.unet import UNet
from vol3d.models.registrars.base import RegistrarNetwork


class Guidance(Config, ABC):
    """A denoiser that guides a registrar."""

    model: UNet = UNet(channels=(16, 32, 32), patch=2, middle_attention=False)
    """The denoiser."""
    schedule: Schedule = VP()
    """The noise in training; both papers' 2000 steps, whose variance grows evenly to 0.01, are this."""
    weight: NonNegativeFloat = 0.05
    """Of the denoising loss. The papers weigh similarity and smoothness 20 times as much as it, ours are
    weighed 1. With 0 no noise is added either: the same network without diffusion, to compare with."""

    @abstractmethod
    def build(self, network: RegistrarNetwork, in_channels: int) -> nn.Module:
        """A registrar's network with its guide: a `GuidedNet`."""


class DiffuseMorph(Guidance):
    """The denoiser's answer is an input of the registrar."""

    kind: Literal["diffusemorph"] = "diffusemorph"

    def build(self, network: RegistrarNetwork, in_channels: int) -> nn.Module:
        """See `Guidance.build`."""
        return GuidedNet(self, network.build(in_channels + 1), in_channels)


class FSDiffReg(Guidance):
    """The denoiser's features guide the registrar's, and its answer weighs voxels."""

    kind: Literal["fsdiffreg"] = "fsdiffreg"
    gamma: NonNegativeFloat = Field(default=1.0)
    """The similarity of a voxel counts sigmoid(answer)^gamma; 0: all voxels alike."""

    def build(self, network: RegistrarNetwork, in_channels: int) -> nn.Module:
        """See `Guidance.build`.

        Raises:
            ConfigError: the denoiser has other grids than the registrar.
        """
        ours = len(network.channels)
        if self.model.patch != 2 or len(self.model.channels) != ours:
            raise ConfigError(
                f"guidance.model: patch={self.model.patch}, {len(self.model.channels)} channels; as "
                f"many as the registrar's {ours} are due, and patch=2, so that both have the same grids"
            )
        guides = self.model.channels
        return GuidedNet(self, network.build(in_channels, guides), in_channels, self.gamma)


class GuidedNet(nn.Module):
    """A denoiser and a registrar.

    Args:
        config: of the guidance.
        registrar: takes one more channel an image; or features, where there is a gamma.
        in_channels: of an image; noise is added to its first.
        gamma: see `FSDiffReg`; None: the answer is an input.
    """

    def __init__(
        self, config: Guidance, registrar: nn.Module, in_channels: int, gamma: float | None = None
    ) -> None:
        super().__init__()
        self.schedule, self.gamma = config.schedule, gamma
        self.registrar = registrar
        self.denoiser = config.model.build(2 * in_channels + 1, 1)
        blocks = self.denoiser.features
        self.taken = {coarser: i for i, (_, coarser) in enumerate(blocks)}  # the last of each grid

    def forward(
        self,
        moving: Tensor,
        fixed: Tensor,
        noise: Tensor | None = None,
        sigma: Tensor | None = None,
    ) -> list[Tensor] | tuple[list[Tensor], Tensor, Tensor | None]:
        """The velocities (see `RegistrarNetwork.build`).

        Args:
            moving: [B, C, X, Y, Z].
            fixed: likewise.
            noise: standard normal [B, 2, X, Y, Z], for the moving and for the fixed image: a training
                pass, which gives the denoising loss as well, and weights [2B, 1, X, Y, Z] or None.
            sigma: noise levels [B], float64.
        """
        seen, other = torch.cat([moving, fixed]), torch.cat([fixed, moving])  # [2B, C, X, Y, Z]
        x0 = seen[:, :1]
        if noise is None:
            x, at = x0, torch.zeros(len(seen), dtype=torch.float64, device=x0.device)
        else:
            both, at = torch.cat(noise.split(1, 1)), torch.cat([sigma, sigma])
            across = at.view(-1, 1, 1, 1, 1)
            x = self.schedule.alpha(across).to(x0) * x0 + across.to(x0) * both
        features: dict[int, list[Tensor]] = defaultdict(list)
        answer = self.denoiser(
            x,
            self.schedule.c_noise(at).to(x0),
            channels=torch.cat([other, seen], 1),
            on_block=lambda i, h: features[i].append(h),  # large images come one after another
        ).to(x0.dtype)
        if self.gamma is None:
            pair = torch.cat([seen, answer], 1).chunk(2)
            velocities = self.registrar(*pair)
        else:
            guides = [torch.cat(features[self.taken[coarser]]) for coarser in sorted(self.taken)]
            velocities = self.registrar(moving, fixed, guides)
        if noise is None:
            return velocities
        weights = None if self.gamma is None else answer.sigmoid() ** self.gamma
        return velocities, (answer - both).square().mean(), weights


GuidanceKind = menu("registration_guidance", DiffuseMorph, FSDiffReg)
