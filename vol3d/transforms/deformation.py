"""Diffeomorphisms as networks make them: velocity fields followed one after another, and back.

T = exp(v1/2) o exp(v2/2) o ... o exp(vn) o ... o exp(v2/2) o exp(v1/2): read backwards it is the same, so
that negated velocities are the inverse, and half of it leads both images to the middle. So does SITReg,
level by level (Honkamaa and Marttinen 2024, MELBA 2:026, arXiv:2303.10211); with one velocity it is the
flow of a stationary field, as in VoxelMorph-diff (Dalca et al. 2019, arXiv:1903.03545).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vol3d.transforms.warp import compose, warp

SQUARINGS = 2
"""Of a velocity that is halved in any case; more change less than the grid's own coarseness does."""


class Deformation:
    """From the fixed image's voxels to the moving one's, both on one grid; invertible.

    Args:
        velocities: v1 to vn, the outermost first, [B, 3, x, y, z] each: voxels of its own grid per unit
            time. Each grid fills the same box.
        shape: X, Y, Z of the images.
        box: the voxels along each axis that the velocities' grids fill together; it begins where the
            images do, and may go on beyond them. None: those of the images.
    """

    def __init__(
        self,
        velocities: Sequence[Tensor],
        shape: Sequence[int],
        box: Sequence[int] | None = None,
    ) -> None:
        assert velocities, "a deformation has one velocity at least"
        self.velocities, self.shape, self.box = list(velocities), (*shape,), (*(box or shape),)

    def displacement(self, t: float = 1.0) -> Tensor:
        """u [B, 3, X, Y, Z] in voxels of the images: x of the fixed goes with x + u(x) of the moving.

        Args:
            t: how far; each velocity times t. From 0, where nothing moves, to 1 it is a continuous path.
                Negative: back.
        """
        *outer, inner = self.parts(t / 2)
        u = compose(inner, inner)
        for part in reversed(outer):
            u = compose(part, compose(u, part))
        return self.on_images(u)

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
        *outer, u = self.parts(t)
        for part in reversed(outer):
            u = compose(part, u)
        return self.on_images(u)

    def parts(self, t: float) -> list[Tensor]:
        """exp(t v) of each velocity, in voxels of the grid of the finest, [B, 3, x, y, z]."""
        finest = max((v.shape[2:] for v in self.velocities), key=torch.Size.numel)
        return [flow(resized(t * v, finest)) for v in self.velocities]

    def on_images(self, u: Tensor) -> Tensor:
        """A displacement that fills the box, at the images' voxels."""
        X, Y, Z = self.shape
        return resized(u, self.box)[:, :, :X, :Y, :Z]


def flow(v: Tensor, squarings: int = SQUARINGS) -> Tensor:
    """exp(v), [B, 3, x, y, z] in voxels: scaling and squaring from the midpoint rule on.

    A step reads the velocity where half of it leads, so that its error is of third order, and two
    squarings do what `vol3d.transforms.warp.integrate` needs six for.
    """
    w = v / 2**squarings
    u = warp(w, w / 2, outside="border")
    for _ in range(squarings):
        u = compose(u, u)  # (id + u) o (id + u)
    return u


def resized(u: Tensor, shape: Sequence[int]) -> Tensor:
    """A displacement or velocity [B, 3, x, y, z] on another grid of the same box, in its voxels."""
    if u.shape[2:] == (*shape,):
        return u
    sizes = u.new_tensor([n / m for n, m in zip(shape, u.shape[2:], strict=True)])
    u = interpolate(u, size=(*shape,), mode="trilinear", align_corners=False)
    return u * sizes[:, None, None, None]
