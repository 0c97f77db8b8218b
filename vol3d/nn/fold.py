"""Space to depth and back: blocks of voxels as channels."""

from collections.abc import Sequence

import torch.nn.functional as nnf
from einops import rearrange
from torch import Tensor


def folded(x: Tensor, size: int) -> Tensor:
    """`fold` of any shape, with zeros at the high ends where it does not divide by `size`."""
    if size == 1:
        return x
    rest = [-n % size for n in x.shape[2:]]
    return fold(nnf.pad(x, (0, rest[2], 0, rest[1], 0, rest[0])), size)


def unfolded(x: Tensor, size: int, shape: Sequence[int]) -> Tensor:
    """The way back of `folded`, to the voxels that there were."""
    if size == 1:
        return x
    return unfold(x, size)[:, :, : shape[0], : shape[1], : shape[2]]


def fold(x: Tensor, size: int) -> Tensor:
    """Space to depth: blocks of size^3 voxels become channels, [B, C size^3, X/size, ...]."""
    return rearrange(x, "b c (x i) (y j) (z k) -> b (c i j k) x y z", i=size, j=size, k=size)


def unfold(x: Tensor, size: int) -> Tensor:
    """Depth to space, the way back of `fold`."""
    return rearrange(x, "b (c i j k) x y z -> b c (x i) (y j) (z k)", i=size, j=size, k=size)
