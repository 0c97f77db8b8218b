"""A small U-Net for segmentation (Falk et al. 2019): MONAI's BasicUNet."""

from typing import Literal

from monai.networks.nets import BasicUNet
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from vol3d.config import Config


class SegmenterUNet(Config):
    """Four halvings of the grid; any shape of 16 voxels or more is taken."""

    kind: Literal["unet"] = "unet"
    features: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (
        16, 16, 32, 64, 64, 16)
    """Channels of the five levels going down, and of the last layer."""

    def build(self, in_channels: int, num_labels: int) -> nn.Module:
        """The network: [B, in_channels, X, Y, Z] -> logits [B, num_labels, X, Y, Z]."""
        return Padded(BasicUNet(spatial_dims=3, in_channels=in_channels, out_channels=num_labels,
                                features=self.features, norm=("INSTANCE", {"affine": True})))


class Padded(nn.Module):
    """Adds zeros at the high end of each axis up to a multiple of 16, and takes them off again."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, X, Y, Z] -> [B, num_labels, X, Y, Z]."""
        a, b, c = x.shape[2:]
        return self.net(functional.pad(x, (0, -c % 16, 0, -b % 16, 0, -a % 16)))[:, :, :a, :b, :c]
