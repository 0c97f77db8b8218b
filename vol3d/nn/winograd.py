"""3 x 3 x 3 convolutions in float32 with fewer products, where oneDNN is bound by its products.

Winograd's minimal filtering F(2x2, 3x3) over Y and Z (Lavin and Gray 2016, arXiv:1509.09308, section
4), and the three taps of X summed directly: 12 products an output instead of 27. Voxels become tiles of
4 x 4 that overlap by 2; transformed, a tile has 16 numbers a channel, and each of the 16 is a matrix
product of its own. Its rounding is below that of the sum that it replaces.
"""

import torch
import torch.nn.functional as nnf
from einops import rearrange
from torch import Tensor

from vol3d.nn.operator import NUMBA, kernels, operator

ROOM = 16 * 2**20
"""Bytes of transformed planes at a time."""
FILTER = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
"""G: what becomes of three taps."""


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution is large and wide enough that products are what it waits for.

    With fewer channels or voxels the transforms, and products of narrow matrices, take what is won.
    """
    fits = NUMBA and x.device.type == "cpu" and x.dtype == torch.float32
    wide = tuple(weight.shape[2:]) == (3, 3, 3) and min(weight.shape[:2]) >= 128
    return fits and wide and x[0, 0].numel() > 4096


@operator()
def winograd(x: Tensor, weight: Tensor, bias: Tensor | None, pad: int) -> Tensor:
    """A 3 x 3 x 3 convolution with `pad` zeros around X, 0 or 1, and one around Y and Z.

    x [B, C, X, Y, Z] and the result lie voxel by voxel.
    """
    voxels = rearrange(x, "b c x y z -> b x y z c").contiguous()
    B, X, Y, Z, C = voxels.shape
    taps, D, ends = transformed(weight), len(weight), 2 - 2 * pad
    bias = weight.new_zeros(D) if bias is None else bias
    tiles = (-(-Y // 2)) * (-(-Z // 2))
    planes = max(1, ROOM // (16 * tiles * C * 4) - 2)
    seen = torch.empty(16, tiles, planes + 2, C)
    out, made = torch.empty(B, X - ends, Y, Z, D), torch.empty(16, tiles, D)
    for b in range(B):
        for first in range(0, X - ends, planes):
            last = min(first + planes, X - ends)
            kernels().to_tiles(voxels[b], first - pad, last - pad + 2, seen)
            for i in range(first, last):
                # Rows of three planes' channels, which lie side by side.
                row, k = seen.stride(1), i - first
                rows = seen.as_strided((16, tiles, 3 * C), (tiles * row, row, 1), k * C)
                torch.bmm(rows, taps, out=made)
                kernels().from_tiles(made, bias, out[b, i])
    return rearrange(out, "b x y z d -> b d x y z")


@winograd.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, pad: int) -> Tensor:
    return nnf.conv3d(x, weight, bias, padding=(pad, 1, 1))


def transformed(weight: Tensor) -> Tensor:
    """[D, C, 3, 3, 3] -> [16, 3 C, D], G w G' of the taps of Y and Z."""
    D, C = weight.shape[:2]
    both = torch.kron(FILTER, FILTER)  # [16, 9]
    return (both @ rearrange(weight, "d c x y z -> (y z) (x c d)")).view(16, 3 * C, D)
