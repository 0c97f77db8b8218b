"""Warps of batches on one grid, differentiable: images moved, fields composed, velocities integrated.

A displacement u [B, 3, X, Y, Z] is in voxels here, along the array's axes: the voxel x goes with the
point x + u(x). `vol3d/transforms/displacement.py` turns it into mm and back.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import grid_sample

HALVES = (torch.float16, torch.bfloat16)
SQUARINGS = 6
"""A velocity is followed in 2^6 steps; a step must be short against the field's own detail."""


def warp(images: torch.Tensor, u: torch.Tensor, *, outside: str = "zeros") -> torch.Tensor:
    """Images read at x + u(x) for each voxel x of u's grid, linearly; [B, C, X, Y, Z].

    Args:
        images: [B, C, X', Y', Z'] on u's grid, or on one of other voxels that fills the same box.
        u: [B, 3, X, Y, Z] in voxels of its own grid.
        outside: zeros, or border: the nearest voxel's value. Values reach half a voxel beyond the
            last centre; with zeros they fade there.

    Half precision, which is too coarse for places, becomes float32.
    """
    images, u = (t.float() if t.dtype in HALVES else t for t in (images, u))
    # u is scaled and added to the voxels' own places in one pass: these fields are most of what moves.
    axes = [
        torch.add((2 * index_along(u, i) + 1) / n - 1, u[:, i], alpha=2 / n)
        for i, n in enumerate(u.shape[2:])
    ]
    return between_faces(images, axes, outside)


def read(
    images: torch.Tensor, places: Sequence[torch.Tensor], shape: Sequence[int], outside: str
) -> torch.Tensor:
    """Images [B, C, X', Y', Z'] at places x, y, z, each [B, I, J, K], in voxels of a grid of a shape."""
    axes = [(2 * place + 1) / n - 1 for place, n in zip(places, shape, strict=True)]
    return between_faces(images, axes, outside)


def between_faces(images: torch.Tensor, axes: Sequence[torch.Tensor], outside: str) -> torch.Tensor:
    """Images at places whose -1 and 1 are the box's faces, so that the sizes of voxels do not matter."""
    where = torch.stack([*axes][::-1], dim=-1)  # [B, I, J, K, 3], the last axis first
    return grid_sample(images, where, padding_mode=outside, align_corners=False)


def index_along(u: torch.Tensor, axis: int) -> torch.Tensor:
    """The indices of u's voxels along one axis, to be added to [B, X, Y, Z]."""
    sides = [-1 if i == axis else 1 for i in range(3)]
    return torch.arange(u.shape[2 + axis], device=u.device, dtype=u.dtype).view(sides)


def compose(second: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """The displacement of (id + second) o (id + first): a point is moved by `first`, then `second`."""
    return first + warp(second, first, outside="border")


def integrate(velocity: torch.Tensor, squarings: int = SQUARINGS) -> torch.Tensor:
    """Follow a stationary velocity field for unit time, exp(v): scaling and squaring.

    Arsigny et al. 2006 (MICCAI, LNCS 4190:924-931); Ashburner 2007 (NeuroImage 38:95-113). The inverse
    is exp(-v).

    Args:
        velocity: [B, 3, X, Y, Z] in voxels per unit time.
        squarings: exp(v) = (exp(v / 2^n))^(2^n), and exp of what is small is id + v / 2^n.
    """
    u = velocity / 2**squarings
    for _ in range(squarings):
        u = compose(u, u)  # (id + u) o (id + u)
    return u
