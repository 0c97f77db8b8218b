"""What all networks that register share: two images in, the velocities of a deformation out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from einops import rearrange
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn.functional import pad

from vol3d.config import Config
from vol3d.nn.blocks import Down, ResBlock, conv3, zeroed
from vol3d.nn.fold import fold
from vol3d.nn.norm import check_groups
from vol3d.transforms.deformation import Deformation


class RegistrarNetwork(Config, ABC):
    """A network that finds the deformation between two images; the menu is `vol3d.trained.registrar`."""

    channels: tuple[PositiveInt, ...] = Field(default=(16, 32, 32, 32), min_length=1)
    """Channels of each level, the finest first; each but the first halves the grid. The finest has
    half the images' voxels along each axis, and so have the velocities."""
    norm_groups: PositiveInt = 8
    """Groups of the group norm."""

    @model_validator(mode="after")
    def check_channels(self) -> "RegistrarNetwork":
        """Channels fit the norm's groups."""
        check_groups(self.channels, self.norm_groups)
        return self

    @property
    def multiple(self) -> int:
        """Shapes are padded to multiples of this, so that every level fills the same box."""
        return 2 ** len(self.channels)

    @abstractmethod
    def build(self, in_channels: int, guide_channels: Sequence[int] = ()) -> nn.Module:
        """The network: `forward(moving, fixed, guides)` -> the velocities of a `Deformation`.

        Args:
            in_channels: of the images [B, in_channels, X, Y, Z], whose sizes are multiples of `multiple`.
            guide_channels: of the features of another network that guide it, a level each: [2B, C, x, y,
                z], those of the moving images first. None if empty.
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


class Fuse(nn.Module):
    """Features attend to those that guide them, and what they find is added.

    FSDiffReg's linear attention (Qin and Li 2023, MICCAI, arXiv:2307.12035; Shen et al. 2021,
    arXiv:1812.01243): queries are a level's own features, keys and values those of a denoiser. Keys are
    a softmax over all voxels, so that time and memory grow with the voxels and not with their square.
    """

    heads = 4

    def __init__(self, channels: int, guide_channels: int) -> None:
        super().__init__()
        self.to_q = nn.Conv3d(channels, channels, 1)
        self.to_kv = nn.Conv3d(guide_channels, 2 * channels, 1)
        self.to_out = zeroed(nn.Conv3d(channels, channels, 1))

    def forward(self, h: Tensor, guide: Tensor) -> Tensor:
        """h [B, C, x, y, z] and what guides it [B, G, x, y, z] -> [B, C, x, y, z]."""
        X, Y, Z = h.shape[2:]
        q, k, v = (
            rearrange(t, "b (h d) x y z -> b h d (x y z)", h=self.heads)
            for t in (self.to_q(h), *self.to_kv(guide).chunk(2, dim=1))
        )
        found = k.softmax(-1) @ v.mT  # [B, H, D, D]
        out = found.mT @ q.softmax(2)  # [B, H, D, N]
        return h + self.to_out(rearrange(out, "b h d (x y z) -> b (h d) x y z", x=X, y=Y, z=Z))


def padded(x: Tensor, multiple: int) -> Tensor:
    """[B, C, X, Y, Z] with zeros at the high ends, so that each axis is a multiple."""
    rest = [-n % multiple for n in x.shape[2:]]
    return pad(x, (0, rest[2], 0, rest[1], 0, rest[0])) if any(rest) else x


def deformation_of(
    velocities: Sequence[Tensor], shape: Sequence[int], multiple: int
) -> Deformation:
    """The deformation of images of a shape, from what a network made of them after padding."""
    return Deformation(velocities, shape, [n + -n % multiple for n in shape])
