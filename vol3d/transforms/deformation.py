"""Diffeomorphisms as networks make them: velocity fields followed one after another, and back.

T = exp(v1/2) o exp(v2/2) o ... o exp(vn) o ... o exp(v2/2) o exp(v1/2): read backwards it is the same, so
that negated velocities are the inverse, and half of it leads both images to the middle. This is what
SITReg makes level by level (Honkamaa and Marttinen 2024, MELBA 2:026, arXiv:2303.10211, eq. 7 to 9); with one
velocity it is the flow of a stationary field (VoxelMorph-diff: Dalca et al. 2019, arXiv:1903.03545).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vol3d.transforms.warp import SQUARINGS, compose, integrate


class Deformation:
    """From the fixed image's voxels to the moving one's, both on one grid; invertible.

    Args:
        velocities: v1 to vn, the outermost first, [B, 3, x, y, z] each: voxels of its own grid per unit
            time. Each grid fills the box of the full one.
        shape: X, Y, Z of the full grid.
    """

    def __init__(self, velocities: Sequence[Tensor], shape: Sequence[int]) -> None:
        assert velocities, "a deformation has one velocity at least"
        self.velocities, self.shape = list(velocities), (*shape,)

    def displacement(self, t: float = 1.0) -> Tensor:
        """u [B, 3, X, Y, Z] in voxels of the full grid: the fixed voxel x goes with x + u(x) of the moving.

        Args:
            t: how far; each velocity times t. From 0, where nothing moves, to 1 it is a continuous path.
                Negative: back.
        """
        parts = self.parts(t / 2)
        u = compose(parts[-1], parts[-1])
        for part in reversed(parts[:-1]):
            u = compose(part, compose(u, part))
        return resized(u, self.shape)

    def inverse(self, t: float = 1.0) -> Tensor:
        """The displacement from the moving image's voxels to the fixed one's; see `displacement`."""
        return self.displacement(-t)

    def to_moving(self) -> Tensor:
        """From the middle of the path to the moving image; see `displacement`."""
        return self.half(0.5)

    def to_fixed(self) -> Tensor:
        """From the middle of the path to the fixed image; see `displacement`."""
        return self.half(-0.5)

    def half(self, t: float) -> Tensor:
        """exp(t v1) o ... o exp(t vn)."""
        parts = self.parts(t)
        u = parts[-1]
        for part in reversed(parts[:-1]):
            u = compose(part, u)
        return resized(u, self.shape)

    def parts(self, t: float) -> list[Tensor]:
        """exp(t v) of each velocity, in voxels of the grid of the finest, [B, 3, x, y, z]."""
        finest = max((v.shape[2:] for v in self.velocities), key=torch.Size.numel)
        return [integrate(resized(t * v, finest), SQUARINGS) for v in self.velocities]


def resized(u: Tensor, shape: Sequence[int]) -> Tensor:
    """A displacement or velocity [B, 3, x, y, z] on another grid that fills the same box, in its voxels."""
    if u.shape[2:] == (*shape,):
        return u
    sizes = u.new_tensor([n / m for n, m in zip(shape, u.shape[2:], strict=True)])
    u = interpolate(u, size=(*shape,), mode="trilinear", align_corners=False)
    return u * sizes[:, None, None, None]
