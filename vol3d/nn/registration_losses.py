"""The losses of registration: how alike two images are, how even a field is, and whether it folds."""

from typing import Any

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
    products = torch.cat([a, b, a * a, b * b, a * b], 1)
    A, B, AA, BB, AB = BoxSum.apply(products, window).chunk(5, 1)
    cross = AB - A * B / n
    return cross * cross / ((AA - A * A / n).clamp(min=EPS) * (BB - B * B / n).clamp(min=EPS))


class BoxSum(torch.autograd.Function):
    """Sums over windows; the gradient is the same sum, of the gradients around a voxel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: int) -> Tensor:
        """See `box_sum`."""
        ctx.window = window
        return box_sum(x, window)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Of the sums, and of the window none."""
        return box_sum(grad, ctx.window), None


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


def folding_penalty(u: Tensor) -> Tensor:
    """How far det J is below 0, on average, by forward differences; u [B, 3, X, Y, Z] in voxels.

    Mok and Chung 2020 (CVPR, arXiv:2003.09514).
    """
    X, Y, Z = (n - 1 for n in u.shape[2:])
    J = [[u[:, i].diff(dim=1 + j)[:, :X, :Y, :Z] + (i == j) for j in range(3)] for i in range(3)]
    det = (
        J[0][0] * (J[1][1] * J[2][2] - J[1][2] * J[2][1])
        - J[0][1] * (J[1][0] * J[2][2] - J[1][2] * J[2][0])
        + J[0][2] * (J[1][0] * J[2][1] - J[1][1] * J[2][0])
    )  # [B, X - 1, Y - 1, Z - 1]
    return (-det).relu().mean()


def soft_dice_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - Dice of shares [B, K, X, Y, Z], mean over the channels that one of the two has.

    Milletari et al. 2016 (3DV, arXiv:1606.04797).
    """
    both, sums = (a * b).sum((2, 3, 4)), a.square().sum((2, 3, 4)) + b.square().sum((2, 3, 4))
    there = sums > 0  # [B, K]
    return 1 - (2 * both / sums.clamp(min=EPS))[there].mean() if there.any() else sums.sum()
