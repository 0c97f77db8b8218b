"""The 3-D patch discriminator: tells real from reconstructed, patch by patch (Isola et al. 2017)."""

from monai.networks.nets import PatchDiscriminator
from pydantic import PositiveInt
from torch import Tensor, nn

from vol3d.config import Config


class Discriminator(Config):
    """MONAI's PatchDiscriminator, with instance norm so that one image does not sway another."""

    channels: PositiveInt = 16
    """Channels of the first layer; each next one has twice as many."""
    layers: PositiveInt = 3
    """Strided layers; each doubles the patch that one output sees."""

    def build(self, in_channels: int = 1) -> nn.Module:
        """The network: [B, 1, X, Y, Z] -> logits [B, 1, x, y, z]."""
        return Logits(
            PatchDiscriminator(
                spatial_dims=3,
                channels=self.channels,
                in_channels=in_channels,
                num_layers_d=self.layers,
                norm=("INSTANCE", {"affine": True}),
                bias=True,
            )
        )


class Logits(nn.Module):
    """Only the last of a discriminator's features, which are its verdict."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, X, Y, Z] -> [B, 1, x, y, z]."""
        return self.net(x)[-1]
