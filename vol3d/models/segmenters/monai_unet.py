"""MONAI's U-Net of nnU-Net's kind, a baseline that others know (Isensee et al. 2021, Nature Methods)."""

from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from vol3d.models.segmenters.base import SegmenterNetwork, dropped, rngs_of


class MonaiUNet(SegmenterNetwork):
    """MONAI's DynUNet: two convolutions a level, instance norm, leaky ReLU; shapes are padded to fit."""

    kind: Literal["monai_unet"] = "monai_unet"
    channels: tuple[PositiveInt, ...] = Field(default=(32, 64, 128, 256), min_length=3)
    """Channels of each level; every level but the last halves the grid."""
    res_block: bool = False
    """Residual blocks on the way down."""

    def build(self, in_channels: int, num_labels: int) -> nn.Module:
        """See `SegmenterNetwork.build`."""
        return MonaiUNetNet(self, in_channels, num_labels)


class MonaiUNetNet(nn.Module):
    """The blocks of a DynUNet, one after another, so that dropout may come between them.

    MONAI's own dropout asks torch's global generator, which no image could have for itself.
    """

    def __init__(self, config: MonaiUNet, in_channels: int, num_labels: int) -> None:
        super().__init__()
        from monai.networks.nets import DynUNet  # here: MONAI takes seconds to load

        self.dropout = config.dropout
        self.times = 2 ** (len(config.channels) - 1)
        strides = [1] + [2] * (len(config.channels) - 1)
        net = DynUNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=num_labels,
            kernel_size=[3] * len(strides),
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=config.channels,
            res_block=config.res_block,
        )
        self.down = nn.ModuleList([net.input_block, *net.downsamples])
        self.middle, self.up, self.conv_out = net.bottleneck, net.upsamples, net.output_block

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """[B, C, X, Y, Z] -> [B, num_labels, X, Y, Z]; with `seeds` of the images [B], with dropout."""
        rngs, (a, b, c) = rngs_of(seeds), x.shape[2:]
        h, seen = self.padded(x), []
        for block in self.down:
            h = block(h)
            seen.append(h)
        h = self.middle(h)
        for block in self.up:
            h = dropped(block(h, seen.pop()), self.dropout, rngs)
        return self.conv_out(h)[:, :, :a, :b, :c]

    def padded(self, x: Tensor) -> Tensor:
        """x with zeros at the high ends, so that each axis halves evenly, and to more than one voxel.

        Of one voxel instance norm leaves nothing.
        """
        sizes = [-(-n // self.times) * self.times for n in x.shape[2:]]
        if max(sizes) == self.times:
            sizes[0] *= 2
        rest = [size - n for size, n in zip(sizes, x.shape[2:], strict=True)]
        return functional.pad(x, (0, rest[2], 0, rest[1], 0, rest[0])) if any(rest) else x
