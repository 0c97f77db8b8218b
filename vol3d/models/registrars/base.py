"""What all networks that register share: two images in, the velocities of a deformation out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn.functional import pad

from vol3d.config import Config
from vol3d.nn.blocks import Down, ResBlock, conv3
from vol3d.nn.fold import fold
from vol3d.transforms.deformation import Deformation


class RegistrarNetwork(Config, ABC):
    """A network that finds the deformation between two images; the menu is `vol3d.trained.registrar`."""

    channels: tuple[PositiveInt, ...] = Field(default=(16, 32, 32, 32), min_length=1)
    """Channels of each level, the finest first; each but the first halves the grid. The finest has
    half the images' voxels along each axis, and so have the velocities."""
    norm_groups: PositiveInt = 8
    """Groups of the group norm."""

    @model_validator(mode="after")
    def check_groups(self) -> "RegistrarNetwork":
        """Channels fit the norm's groups."""
        for c in self.channels:
            if c % self.norm_groups:
                raise ValueError(
                    f"channels={c} must be a multiple of norm_groups={self.norm_groups}"
                )
        return self

    @property
    def multiple(self) -> int:
        """Shapes are padded to multiples of this, so that every level fills the same box."""
        return 2 ** len(self.channels)

    @abstractmethod
    def build(self, in_channels: int) -> nn.Module:
        """The network: `forward(moving, fixed)`, [B, in_channels, X, Y, Z] each -> velocities.

        X, Y, Z are multiples of `multiple`; the velocities are those of `Deformation`.
        """


class Encoder(nn.Module):
    """Features of an image on each level: a residual block, and the grid halved."""

    def __init__(self, channels: Sequence[int], in_channels: int, groups: int) -> None:
        super().__init__()
        self.conv_in = conv3(8 * in_channels, channels[0])
        above = (channels[0], *channels[:-1])
        self.down = nn.ModuleList(
            ResBlock(a, c, groups=groups) for a, c in zip(above, channels, strict=True)
        )
        self.shrink = nn.ModuleList(Down(c) for c in channels[:-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, in_channels, X, Y, Z] -> features of each level, the finest first, at half the voxels."""
        h, levels = self.conv_in(fold(x, 2)), []
        for block, halve in zip(self.down, [*self.shrink, None], strict=True):
            levels.append(h := block(h))
            h = halve(h) if halve is not None else h
        return levels


def padded(x: Tensor, multiple: int) -> Tensor:
    """[B, C, X, Y, Z] with zeros at the high ends, so that each axis is a multiple."""
    rest = [-n % multiple for n in x.shape[2:]]
    return pad(x, (0, rest[2], 0, rest[1], 0, rest[0])) if any(rest) else x


def deformation_of(
    velocities: Sequence[Tensor], shape: Sequence[int], multiple: int
) -> Deformation:
    """The deformation of images of a shape, from what a network made of them after padding."""
    return Deformation(velocities, shape, [n + -n % multiple for n in shape])
