"""The 3-D patch discriminator: tells real from reconstructed, patch by patch (Isola et al. 2017)."""

from typing import Literal

from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from vol3d.config import Config


class Patch(Config):
    """MONAI's PatchDiscriminator, with a norm in which one image does not sway another."""

    kind: Literal["patch"] = "patch"
    channels: PositiveInt = 16
    """Channels of the first layer; each next one has twice as many."""
    layers: PositiveInt = 3
    """Strided layers; each doubles the patch that one output sees."""
    norm: Literal["instance", "group"] = "instance"
    """Over each channel of an image, or over groups of them. Never over a batch: that tells real
    batches from fake ones, and does not hold in the generator's pass."""
    norm_groups: PositiveInt = 8
    """Groups of the group norm."""

    @model_validator(mode="after")
    def check_groups(self) -> "Patch":
        """The groups divide the channels of every layer that is normed."""
        if self.norm == "group" and 2 * self.channels % self.norm_groups:
            raise ValueError(
                f"norm_groups={self.norm_groups} must divide 2 x channels={self.channels}"
            )
        return self

    @property
    def smallest(self) -> int:
        """The shortest edge of a volume, in voxels, for which there is a verdict.

        Halved by each strided layer; the two 4^3 convolutions after them take one voxel each.
        """
        return 3 * 2**self.layers

    def build(self, in_channels: int = 1) -> nn.Module:
        """The network: [B, in_channels, X, Y, Z] -> features at one scale."""
        return PatchNet(self, in_channels)


class PatchNet(nn.Module):
    """x [B, C, X, Y, Z] -> [features], the last of which are logits [B, 1, x, y, z]."""

    def __init__(self, config: Patch, in_channels: int) -> None:
        super().__init__()
        norms = {
            "instance": ("INSTANCE", {"affine": True}),
            "group": ("GROUP", {"num_groups": config.norm_groups}),
        }
        from monai.networks.nets import PatchDiscriminator  # here: MONAI takes seconds to load

        self.net = PatchDiscriminator(
            spatial_dims=3,
            channels=config.channels,
            in_channels=in_channels,
            num_layers_d=config.layers,
            norm=norms[config.norm],
            bias=True,
        )

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """A list of one scale, a list of its features."""
        return [self.net(x)]
