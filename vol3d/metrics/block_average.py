"""The plainest compression there is, which any autoencoder should beat: averages of blocks."""

import torch
import torch.nn.functional as nnf
from torch import Tensor


def block_average(x: Tensor, factor: float, mask: Tensor | None = None) -> Tensor:
    """Average blocks of `factor` voxels per axis, and go back the better of two ways.

    Back by repeating each average over its block, and by linear interpolation between the blocks'
    centres; the one with the smaller squared error is returned, so that the baseline is the
    stronger one. Blocks at the far edge average the voxels there are. Where `factor` is no whole
    number the blocks are those of adaptive average pooling to ceil(shape / factor).

    Args:
        x: [1, X, Y, Z] in [0, 1].
        factor: voxels per block along each axis, 1 or more.
        mask: where the error counts, [1, X, Y, Z]; everywhere if not given.

    Returns:
        [1, X, Y, Z], what is left of x.
    """
    if factor < 1:
        raise ValueError(f"factor is voxels per block, 1 or more, got {factor:g}")
    shape = x.shape[1:]
    if abs(factor - round(factor)) < 1e-6:
        f = round(factor)
        small = nnf.avg_pool3d(x[None], f, ceil_mode=True, count_include_pad=False)
        cover = [n * f for n in small.shape[2:]]  # the blocks reach a little past the far edge
    else:
        size = [int(torch.ceil(torch.tensor(n / factor - 1e-6))) for n in shape]
        small = nnf.adaptive_avg_pool3d(x[None], size)
        cover = list(shape)
    back = [
        nnf.interpolate(small, cover, mode="nearest-exact"),
        nnf.interpolate(small, cover, mode="trilinear", align_corners=False),
    ]
    back = [b[0, :, : shape[0], : shape[1], : shape[2]] for b in back]
    where = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
    return min(back, key=lambda b: float((b - x)[where].square().sum()))


def equal_values_factor(downsample: int, z_channels: int) -> float:
    """The block size that stores as many numbers as an autoencoder does.

    A latent has z_channels / downsample^3 numbers per voxel; blocks of f have 1 / f^3.
    """
    return max(1.0, downsample / z_channels ** (1 / 3))
