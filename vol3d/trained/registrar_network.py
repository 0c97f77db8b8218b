"""A registrar's network put together: what finds the deformation, what guides it, what else it sees."""

from typing import Self

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.diffusion.registration_guidance import GuidanceKind
from vol3d.models.registrars import RegistrarKind
from vol3d.models.registrars.base import deformation_of, padded
from vol3d.models.registrars.objective import Objective
from vol3d.models.registrars.symmetric import Symmetric
from vol3d.trained.autoencoder import channels_last
from vol3d.trained.segmenter_networks.diffusion_features import DiffusionFeatures
from vol3d.transforms.deformation import Deformation


class RegistrarSettings(Config):
    """What a registrar is made of; a bundle keeps this."""

    model: RegistrarKind = Symmetric()
    """The network."""
    guidance: GuidanceKind | None = None
    """A denoiser that is trained beside it and guides it: diffusemorph or fsdiffreg."""
    features: DiffusionFeatures | None = None
    """A trained generator whose features it sees beside the images: {of: runs/generator}."""
    feature_channels: PositiveInt = 8
    """Channels that its features are mixed into."""
    objective: Objective = Objective()
    """What a deformation is to achieve, in training and in a search."""

    def kept(self) -> Self:
        """The settings as a bundle keeps them, which build the network without any other file."""
        return self.model_copy(update={"features": self.features and self.features.kept()})

    def build(self) -> nn.Module:
        """The network: `forward(moving, fixed)`, [B, 1, X, Y, Z] each -> velocities.

        Sizes are multiples of `model.multiple`; with guidance it takes noise as well (`GuidedNet`).
        """
        channels = 1 + (self.feature_channels if self.features else 0)
        net = (
            self.model.build(channels)
            if self.guidance is None
            else self.guidance.build(self.model, channels)
        )
        if self.features is None:
            return net
        return FeaturedNet(self.features.build(1, self.feature_channels), net)


class FeaturedNet(nn.Module):
    """A registrar that sees features of each image beside it."""

    def __init__(self, features: nn.Module, registrar: nn.Module) -> None:
        super().__init__()
        self.features, self.registrar = features, registrar

    def forward(self, moving: Tensor, fixed: Tensor, *noise: Tensor):
        """See `RegistrarSettings.build`."""
        images = torch.cat([moving, fixed])
        pair = torch.cat([images, self.features(images).to(images.dtype)], 1).chunk(2)
        return self.registrar(*pair, *noise)


def found_by(net: nn.Module, multiple: int, moving: Tensor, fixed: Tensor) -> Deformation:
    """What a network says of images of any shape."""
    seen = (channels_last(padded(x, multiple)) for x in (moving, fixed))
    return deformation_of(net(*seen), fixed.shape[2:], multiple)
