"""Random patches: the same place of everything that belongs together."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T", Tensor, Tensor | None)


def cropped(
    tensors: Mapping[str, T], patch: Sequence[int] | None, rng: torch.Generator
) -> dict[str, T]:
    """A random patch of so many voxels, the same of all.

    Args:
        tensors: [C, X, Y, Z] of one grid by name; None for what is missing.
        patch: voxels along X, Y, Z; an axis that is shorter is kept whole; None keeps all.
        rng: of the place.
    """
    shape = next(t.shape for t in tensors.values() if t is not None)
    for axis, size in enumerate(patch or (), start=1):
        beyond = shape[axis] - size
        if beyond > 0:
            start = int(torch.randint(beyond + 1, (), generator=rng))
            tensors = {
                n: t if t is None else t.narrow(axis, start, size) for n, t in tensors.items()
            }
    return dict(tensors)
