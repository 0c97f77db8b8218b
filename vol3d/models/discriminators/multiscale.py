"""Patch discriminators on a pyramid of the volume (Wang et al. 2018, arXiv:1711.11585, section 3.2)."""

from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from vol3d.models.discriminators.patch import Patch, PatchNet


class MultiScale(Patch):
    """Patch discriminators alike, each of which sees the volume at half the resolution of the last.

    MONAI's MultiScalePatchDiscriminator is another: it leaves the volume as it is and makes each next
    network deeper, to 2^(scales x layers) times the first channels.
    """

    kind: Literal["multiscale"] = "multiscale"
    scales: PositiveInt = 2
    """How many discriminators."""

    @property
    def smallest(self) -> int:
        """The shortest edge of a volume, in voxels, for which the last has a verdict."""
        return (super().smallest - 1) * 2 ** (self.scales - 1) + 1

    def build(self, in_channels: int = 1) -> nn.Module:
        """The network: [B, in_channels, X, Y, Z] -> features at every scale."""
        return MultiScaleNet(self, in_channels)


class MultiScaleNet(nn.Module):
    """x [B, C, X, Y, Z] -> the features of each scale, full resolution first."""

    def __init__(self, config: MultiScale, in_channels: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList([PatchNet(config, in_channels) for _ in range(config.scales)])

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """A list over scales, of the lists of their features."""
        out = []
        for i, net in enumerate(self.nets):
            if i:
                x = functional.avg_pool3d(x, 3, stride=2, padding=1, count_include_pad=False)
            out += net(x)
        return out
