"""The KL-regularised autoencoder of latent diffusion (Rombach et al. 2022, arXiv:2112.10752)."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from vol3d.models.autoencoders.backbone import Backbone, Decoder, Encoder
from vol3d.models.autoencoders.base import Posterior, Reconstruction


class AutoencoderKL(Backbone):
    """Residual blocks around strided convolutions; a normal posterior in the middle.

    With `patch: 1` it is MONAI's AutoencoderKL layer by layer.
    """

    kind: Literal["kl"] = "kl"
    kl_weight: NonNegativeFloat = 1e-4
    """Of the Kullback-Leibler divergence from a standard normal, per latent element."""

    def build(self, in_channels: int = 1) -> "KLNet":
        """The network for volumes [B, in_channels, X, Y, Z]."""
        return KLNet(self, in_channels)


class KLNet(nn.Module):
    """`encode(x) -> Posterior`, `decode(z, shape) -> x`; called, it is a training pass."""

    def __init__(self, config: AutoencoderKL, in_channels: int) -> None:
        super().__init__()
        self.z_channels, self.downsample = config.z_channels, config.downsample
        self.kl_weight = config.kl_weight
        z = config.z_channels
        self.encoder = Encoder(config, in_channels)
        self.decoder = Decoder(config, in_channels)
        self.quant_conv_mu = nn.Conv3d(z, z, 1)
        self.quant_conv_log_sigma = nn.Conv3d(z, z, 1)
        self.post_quant_conv = nn.Conv3d(z, z, 1)

    @property
    def last_layer(self) -> nn.Conv3d:
        """The convolution that makes the voxels."""
        return self.decoder.blocks[-1]

    def encode(self, x: Tensor) -> Posterior:
        """x [B, 1, X, Y, Z] -> the posterior over z [B, C, x, y, z]."""
        h = self.encoder(x)
        with torch.autocast(h.device.type, enabled=False):  # what is kept is float32
            mean, logvar = self.quant_conv_mu(h), self.quant_conv_log_sigma(h)
        # MONAI's head predicts the logarithm of the variance and clamps it to this range.
        return Posterior(mean, logvar.clamp(-30.0, 20.0))

    def decode(self, z: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """z [B, C, x, y, z] -> [B, 1, *shape]; without a shape, all of it."""
        return self.decoder(self.post_quant_conv(z), shape)

    def forward(self, x: Tensor, noise: Tensor) -> Reconstruction:
        """x [B, 1, X, Y, Z] through a draw from the posterior, with noise of the latent's shape."""
        posterior = self.encode(x)
        y = self.decode(posterior.sample(noise), x.shape[2:])
        return Reconstruction(y, {"kl": self.kl_weight * divergence(posterior).mean()})


def divergence(posterior: Posterior) -> Tensor:
    """From the standard normal, in nats per latent element, of each image [B]."""
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).mean(1)
