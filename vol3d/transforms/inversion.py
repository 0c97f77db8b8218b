"""Inverses of displacement fields that have no velocity, in voxels, as in `warp.py`; no gradients."""

import torch

from vol3d.transforms.warp import index_along, read

SIMPLE_TRIES, NEWTON_TRIES = 30, 20
SHORTEST_STEP = 1e-3
CLOSE_VOXELS = 1e-3
"""Nearer than this an inverse need not be."""


@torch.no_grad()
def invert(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The displacement v of (id + u)^-1, for fields that have no velocity: v(y) = -u(y + v(y)).

    The fixed point iteration of Chen et al. 2008 (Med Phys 35:81-88), which converges where u changes by
    less than a voxel per voxel; where a step makes things worse, it is not made, and later ones are half
    as long, so that it converges too where tissue grows several times over. The few voxels that are left,
    where u turns or shears, go on by Newton's method.

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
    for turn in range(SIMPLE_TRIES + NEWTON_TRIES):
        if turn == SIMPLE_TRIES:
            step.fill_(1)
        at = ((miss > CLOSE_VOXELS) & (step > SHORTEST_STEP)).nonzero()[:, 0]
        if not len(at):
            continue
        way = off[:, at]
        if turn >= SIMPLE_TRIES:
            way = newton(u, y[:, at] + v[:, at], way)
        tried = v[:, at] - step[at] * way
        off_tried = tried + at_points(u, y[:, at] + tried)
        miss_tried = off_tried.norm(dim=0)
        is_better = miss_tried < miss[at]
        step[at[~is_better]] /= 2
        better = at[is_better]
        v[:, better], off[:, better] = tried[:, is_better], off_tried[:, is_better]
        miss[better] = miss_tried[is_better]
    return v.view(1, 3, *shape), miss.view(1, 1, *shape)


def newton(u: torch.Tensor, x: torch.Tensor, off: torch.Tensor) -> torch.Tensor:
    """J^-1 off [3, n] at points x [3, n]; J is the Jacobian of id + u, by half a voxel each way."""
    half = torch.eye(3, dtype=x.dtype, device=x.device) / 2
    columns = [at_points(u, x + h[:, None]) - at_points(u, x - h[:, None]) for h in half]
    J = torch.stack(columns, dim=-1).transpose(0, 1) + 2 * half  # [n, 3, 3]
    return (torch.linalg.pinv(J) @ off.T[..., None])[..., 0].T


def at_points(u: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """u [1, 3, X, Y, Z] at points x [3, n], in voxels: [3, n]."""
    return read(u, x[:, None, :, None, None], u.shape[2:], "border")[0, :, :, 0, 0]
