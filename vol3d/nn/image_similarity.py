"""How alike two images are, voxel by voxel, and how even a field is: the losses of registration."""

import torch
from torch import Tensor
from torch.nn.functional import pad

EPS = 1e-5
"""The least variance in a window, summed over it, as in MONAI: flat images do not correlate."""


def local_ncc(a: Tensor, b: Tensor, window: int = 9) -> Tensor:
    """The squared correlation of two images in a window around each voxel, [B, C, X, Y, Z], 0 to 1.

    Avants et al. 2008 (Med Image Anal 12:26), as VoxelMorph and MONAI compute it: with zeros around the
    volume, over all window^3 voxels.
    """
    n = window**3
    A, B, AA, BB, AB = box_sum(torch.cat([a, b, a * a, b * b, a * b], 1), window).chunk(5, 1)
    cross = AB - A * B / n
    return cross * cross / ((AA - A * A / n).clamp(min=EPS) * (BB - B * B / n).clamp(min=EPS))


def box_sum(x: Tensor, window: int) -> Tensor:
    """Sums over windows of window^3 voxels (an odd number), zeros around; [B, C, X, Y, Z] -> the same.

    Axis by axis, by doubling: sums of 1, 2, 4, 8 neighbours, put together. A running sum would need
    less, and leave rounding errors where all is 0, which the correlation there is divided by.
    """
    for axis in (2, 3, 4):
        x = sums_along(x, axis, window)
    return x


def sums_along(x: Tensor, axis: int, window: int) -> Tensor:
    """Sums of `window` neighbours along an axis."""
    n, r = x.shape[axis], window // 2
    run, length = pad(x, [0, 0] * (4 - axis) + [r, r]), 1  # run[i]: of `length` from i on
    total, start = None, 0
    while length <= window:
        if window & length:
            part = run.narrow(axis, start, n)
            total, start = part if total is None else total + part, start + length
        if 2 * length <= window:
            m = run.shape[axis] - length
            run = run.narrow(axis, 0, m) + run.narrow(axis, length, m)
        length *= 2
    return total


def unevenness(u: Tensor) -> Tensor:
    """The mean squared difference of a field [B, 3, X, Y, Z] between neighbours along each axis."""
    return torch.stack([u.diff(dim=axis).square().mean() for axis in (2, 3, 4)]).mean()
