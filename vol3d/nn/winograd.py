"""3 x 3 x 3 convolutions in float32 with fewer products, where oneDNN is bound by its products.

Winograd's minimal filtering F(2x2, 3x3) over Y and Z (Lavin and Gray 2016, arXiv:1509.09308, section
4), and the three taps of X summed directly: 12 products an output instead of 27. Voxels become tiles of
4 x 4 that overlap by 2; transformed, a tile has 16 numbers a channel, and each of the 16 is a matrix
product of its own. The gradient of the weight is the same with input and output in each other's place.
Rounding is below that of the sums that it replaces.

Blocks of some planes and some rows of tiles are done one after the other, each in the cache.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as nnf
from einops import rearrange
from torch import Tensor

from vol3d.nn.custom_ops import NUMBA, kernels, operator

TILES = 128
"""Tiles of a plane at a time, about: rows of a matrix product."""
ROOM = 8 * 2**20
"""Bytes of transformed voxels at a time, about."""
FILTER = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
"""G: what becomes of three taps."""
BOTH = torch.kron(FILTER, FILTER)  # [16, 9]


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution is large and wide enough that products are what it waits for.

    With fewer channels or voxels the transforms, and products of narrow matrices, take what is won.
    """
    fits = NUMBA and x.device.type == "cpu" and x.dtype == torch.float32
    wide = tuple(weight.shape[2:]) == (3, 3, 3) and min(weight.shape[:2]) >= 64
    return fits and wide and x[0, 0].numel() > 4096


@operator()
def winograd(x: Tensor, weight: Tensor, bias: Tensor | None, pad: int) -> Tensor:
    """A 3 x 3 x 3 convolution with `pad` zeros around X, 0 or 1, and one around Y and Z.

    x [B, C, X, Y, Z] and the result lie voxel by voxel.
    """
    images = rearrange(x, "b c x y z -> b x y z c").contiguous()
    B, X, Y, Z, C = images.shape
    D = len(weight)
    # G w G' of the taps of Y and Z: [16, 3 C, D].
    taps = (BOTH @ rearrange(weight, "d c x y z -> (y z) (x c d)")).view(16, 3 * C, D)
    bias = weight.new_zeros(D) if bias is None else bias
    out = torch.empty(B, X + 2 * pad - 2, Y, Z, D)
    for image, result in zip(images, out, strict=True):
        for planes, rows in blocks(result.shape, C):
            seen = tiles_of(image, planes.start - pad, planes.stop - pad + 2, rows)
            made = torch.empty(len(planes), 16, seen.shape[1], D)
            for i, product in enumerate(made):
                torch.bmm(neighbours(seen, i), taps, out=product)
            kernels().from_tiles(made, bias, rows.start, result[planes.start : planes.stop])
    return rearrange(out, "b x y z d -> b d x y z")


@winograd.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, pad: int) -> Tensor:
    return nnf.conv3d(x, weight, bias, padding=(pad, 1, 1))


@operator()
def winograd_weight_gradient(g: Tensor, x: Tensor) -> Tensor:
    """Gradient of a convolution's weight [D, C, 3, 3, 3], which had a zero around Y and Z, none around X.

    Args:
        g: gradient of its output, [1, D, X, Y, Z].
        x: what it saw, [1, C, X + 2, Y, Z].
    """
    given, image = (rearrange(t, "1 c x y z -> x y z c").contiguous() for t in (g, x))
    C, D = image.shape[-1], given.shape[-1]
    total = torch.zeros(16, D, 3 * C)
    for planes, rows in blocks(given.shape, C):
        seen = tiles_of(image, planes.start, planes.stop + 2, rows)
        made = torch.empty(len(planes), 16, seen.shape[1], D)
        kernels().to_gradient_tiles(given[planes.start : planes.stop], rows.start, made)
        for i, part in enumerate(made):
            total.baddbmm_(part.mT, neighbours(seen, i))
    taps = BOTH.T @ total.view(16, -1)
    return rearrange(taps, "(y z) (d x c) -> d c x y z", y=3, x=3, c=C)


@winograd_weight_gradient.register_fake
def _(g: Tensor, x: Tensor) -> Tensor:
    return x.new_empty(g.shape[1], x.shape[1], 3, 3, 3)


def blocks(shape: torch.Size, channels: int) -> Iterator[tuple[range, range]]:
    """Planes, and rows of tiles, of an output [X, Y, Z, ...] that are done at a time."""
    X, across, down = shape[0], -(-shape[2] // 2), -(-shape[1] // 2)
    high = min(down, max(1, TILES // across))
    long = max(1, ROOM // (16 * 4 * channels * high * across) - 2)
    for row in range(0, down, high):
        for plane in range(0, X, long):
            yield range(plane, min(plane + long, X)), range(row, min(row + high, down))


def tiles_of(image: Tensor, first: int, last: int, rows: range) -> Tensor:
    """Planes [first, last) of image [X, Y, Z, C], zero outside, as [16, tiles, planes, C]."""
    across = -(-image.shape[2] // 2)
    seen = torch.empty(16, len(rows) * across, last - first, image.shape[3])
    kernels().to_tiles(image, first, rows.start, seen)
    return seen


def neighbours(seen: Tensor, i: int) -> Tensor:
    """The channels of planes i to i + 2, which lie side by side: [16, tiles, 3 C]."""
    tiles, _, C = seen.shape[1:]
    row = seen.stride(1)
    return seen.as_strided((16, tiles, 3 * C), (tiles * row, row, 1), i * C)
