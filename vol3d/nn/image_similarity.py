"""How alike two images are, and how even a field is: the losses of registration, differentiable."""

import torch
from torch import Tensor
from torch.nn.functional import pad

EPS = 1e-5
"""Of the variances in a window, as in MONAI: where both images are flat, they do not correlate."""


def box_sum(x: Tensor, window: int) -> Tensor:
    """Sums over windows of window^3 voxels, zeros around; [B, C, X, Y, Z] -> the same.

    Each axis by itself: a running sum costs the same for every window.
    """
    r = window // 2
    for axis in (2, 3, 4):
        around = [0, 0] * (4 - axis) + [r + 1, r]
        total = pad(x, around).cumsum(axis)
        n = x.shape[axis]
        x = total.narrow(axis, window, n) - total.narrow(axis, 0, n)
    return x


def local_ncc(a: Tensor, b: Tensor, window: int = 9) -> Tensor:
    """The squared correlation of two images in a window around each voxel, [B, C, X, Y, Z], 0 to 1.

    Avants et al. 2008 (Med Image Anal 12:26), as VoxelMorph and MONAI compute it: with zeros around the
    volume, over all window^3 voxels.
    """
    stacked = torch.cat([a, b, a * a, b * b, a * b], 1)
    n = window**3
    A, B, AA, BB, AB = (box_sum(stacked, window) / n).chunk(5, 1)
    cross = AB - A * B
    return cross * cross / ((AA - A * A).clamp(min=EPS / n) * (BB - B * B).clamp(min=EPS / n))


def unevenness(u: Tensor) -> Tensor:
    """The mean squared difference of a field [B, 3, X, Y, Z] between neighbours along each axis."""
    return torch.stack([u.diff(dim=axis).square().mean() for axis in (2, 3, 4)]).mean()
