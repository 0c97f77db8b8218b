"""What every autoencoder gives, so that nothing else asks which one it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Posterior:
    """A normal distribution over each latent element: mean and logvar, each [B, C, x, y, z]."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """A draw, given standard normal noise of the mean's shape."""
        return self.mean + (self.logvar / 2).exp() * noise


@dataclass(frozen=True)
class Reconstruction:
    """What comes of one training pass.

    Attributes:
        x: the volumes again, [B, 1, X, Y, Z].
        penalties: the model's own losses by name, weighted, each a scalar.
        measures: figures to log beside the losses, each a scalar; nothing learns from them.
    """

    x: Tensor
    penalties: dict[str, Tensor]
    measures: dict[str, Tensor] = field(default_factory=dict)


class AutoencoderNet(Protocol):
    """A network that an autoencoder's config builds.

    Attributes:
        z_channels: of the latent.
        downsample: linear factor between a volume and its latent.
        last_layer: the convolution that makes the voxels; there the adversarial loss is balanced.
    """

    z_channels: int
    downsample: int
    last_layer: nn.Conv3d

    def encode(self, x: Tensor) -> Posterior:
        """x [B, 1, X, Y, Z] -> the posterior over z [B, C, x, y, z], x = ceil(X / downsample)."""

    def decode(self, z: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """z [B, C, x, y, z] -> [B, 1, *shape]; without a shape, all of it."""

    def __call__(self, x: Tensor, noise: Tensor) -> Reconstruction:
        """A training pass on x, with normal noise of the latent's shape, drawn per image."""
