"""The VQ-VAE: a latent whose every site is one of a few learnt vectors (arXiv:1711.00937).

With a discriminator it is VQ-GAN (Esser et al. 2021, arXiv:2012.09841).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from vol3d.models.autoencoders.backbone import Backbone, Decoder, Encoder
from vol3d.models.autoencoders.base import Posterior, Reconstruction
from vol3d.nn.quantiser import Quantiser

CERTAIN = -30.0
"""The log-variance of a latent that is not drawn."""


class AutoencoderVQ(Backbone):
    """Residual blocks around strided convolutions; a codebook in the middle."""

    kind: Literal["vq"] = "vq"
    num_codes: PositiveInt = 1024
    """Vectors in the codebook, each of `z_channels` numbers."""
    commitment_weight: NonNegativeFloat = 0.25
    """Of the mean squared distance of latents from their codes (beta in eq. 3)."""
    decay: float = Field(default=0.99, gt=0, lt=1)
    """Of the running means that are the codes, per update (gamma in appendix A.1)."""
    restart_below: float = Field(default=0.1, gt=0, lt=1)
    """A code whose running count of uses per update falls below this becomes a latent vector of the
    batch."""

    def build(self, in_channels: int = 1) -> "VQNet":
        """The network for volumes [B, in_channels, X, Y, Z]."""
        return VQNet(self, in_channels)


class VQNet(nn.Module):
    """`encode(x) -> Posterior`, `decode(z, shape) -> x`; called, it is a training pass.

    The latent is that before quantisation, and decoding quantises, as in the VQ models of latent
    diffusion (Rombach et al. 2022, section 3.1): so a diffusion model has a continuous latent.
    """

    def __init__(self, config: AutoencoderVQ, in_channels: int) -> None:
        super().__init__()
        self.z_channels, self.downsample = config.z_channels, config.downsample
        self.commitment_weight = config.commitment_weight
        self.encoder = Encoder(config, in_channels)
        self.decoder = Decoder(config, in_channels)
        self.quantiser = Quantiser(
            config.num_codes,
            config.z_channels,
            decay=config.decay,
            restart_below=config.restart_below,
        )

    @property
    def last_layer(self) -> nn.Conv3d:
        """The convolution that makes the voxels."""
        return self.decoder.blocks[-1]

    def encode(self, x: Tensor) -> Posterior:
        """x [B, 1, X, Y, Z] -> z [B, C, x, y, z] before quantisation, of which it is certain."""
        z = self.encoder(x)
        return Posterior(z, torch.full_like(z, CERTAIN))

    def decode(self, z: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """z [B, C, x, y, z] before quantisation -> [B, 1, *shape]; without a shape, all of it."""
        return self.decoder(self.quantiser.nearest(z), shape)

    def forward(self, x: Tensor, noise: Tensor) -> Reconstruction:
        """x [B, 1, X, Y, Z] through the codes; noise of the latent's shape picks restarts."""
        q = self.quantiser(self.encoder(x), noise)
        return Reconstruction(
            self.decoder(q.z, x.shape[2:]),
            {"commitment": self.commitment_weight * q.commitment},
            {"perplexity": q.perplexity},
        )
