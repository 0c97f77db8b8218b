"""Warps of batches on one grid, differentiable: images moved, fields composed, integrated, inverted.

A displacement u [B, 3, X, Y, Z] is in voxels here, along the array's axes: the voxel x goes with the
point x + u(x). `vol3d/transforms/displacement.py` turns it into mm and back.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import grid_sample

SQUARINGS = 6
"""A velocity is followed in 2^6 steps; a step must be short against the field's own detail."""
TRIES = 60
SHORTEST_STEP = 1e-3
CLOSE_VOXELS = 1e-3
"""Nearer than this an inverse need not be."""


def warp(images: torch.Tensor, u: torch.Tensor, *, outside: str = "zeros") -> torch.Tensor:
    """Images read at x + u(x) for each voxel x of u's grid, linearly; [B, C, X, Y, Z].

    Args:
        images: [B, C, X', Y', Z'] on u's grid, or on one of other voxels that fills the same box.
        u: [B, 3, X, Y, Z] in voxels of its own grid.
        outside: zeros, or border: the nearest voxel's value. Values reach half a voxel beyond the
            last centre; with zeros they fade there.
    """
    return read(images, [u[:, i] + index_along(u, i) for i in range(3)], u.shape[2:], outside)


def read(
    images: torch.Tensor, places: Sequence[torch.Tensor], shape: Sequence[int], outside: str
) -> torch.Tensor:
    """Images [B, C, X', Y', Z'] at places x, y, z, each [B, I, J, K], in voxels of a grid of a shape."""
    # align_corners=False: -1 and 1 are the box's faces, so that the sizes of voxels do not matter.
    axes = [(2 * place + 1) / n - 1 for place, n in zip(places, shape, strict=True)]
    where = torch.stack(axes[::-1], dim=-1)  # [B, I, J, K, 3] from -1 to 1; last axis first
    return grid_sample(images, where, padding_mode=outside, align_corners=False)


def index_along(u: torch.Tensor, axis: int) -> torch.Tensor:
    """The indices of u's voxels along one axis, to be added to [B, X, Y, Z]."""
    sides = [-1 if i == axis else 1 for i in range(3)]
    return torch.arange(u.shape[2 + axis], device=u.device).view(sides)


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


@torch.no_grad()
def invert(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The displacement v of (id + u)^-1, for fields that have no velocity: v(y) = -u(y + v(y)).

    The fixed point iteration of Chen et al. 2008 (Med Phys 35:81-88), which converges where u changes by
    less than a voxel per voxel; where a step makes things worse, it is not made, and later ones are half
    as long. So it converges too where tissue grows several times over.

    Returns:
        v [B, 3, X, Y, Z], and by how many voxels T(y + v(y)) misses y, [B, 1, X, Y, Z]; large where
        there is no inverse.
    """
    found, missed = zip(*(invert_one(one[None]) for one in u), strict=True)
    return torch.cat(found), torch.cat(missed)


def invert_one(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for one field [1, 3, X, Y, Z]; voxels that are done are left alone."""
    shape = u.shape[2:]
    y = torch.stack([index_along(u, i).expand(shape) for i in range(3)]).flatten(1)  # [3, N]
    off, v = u[0].flatten(1).clone(), torch.zeros_like(u[0]).flatten(1)  # off: T(y + v) - y
    miss, step = off.norm(dim=0), torch.ones_like(off[0])
    for _ in range(TRIES):
        at = ((miss > CLOSE_VOXELS) & (step > SHORTEST_STEP)).nonzero()[:, 0]
        if not len(at):
            break
        tried = v[:, at] - step[at] * off[:, at]
        places = (y[:, at] + tried)[:, None, :, None, None]  # [3, 1, n, 1, 1]
        off_tried = tried + read(u, places, shape, "border")[0, :, :, 0, 0]
        miss_tried = off_tried.norm(dim=0)
        is_better = miss_tried < miss[at]
        step[at[~is_better]] /= 2
        better = at[is_better]
        v[:, better], off[:, better] = tried[:, is_better], off_tried[:, is_better]
        miss[better] = miss_tried[is_better]
    return v.view(1, 3, *shape), miss.view(1, 1, *shape)
