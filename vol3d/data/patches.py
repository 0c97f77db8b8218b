"""Random patches of a volume, drawn where one likes, with the weight that undoes the liking."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field, PositiveInt, model_validator
from torch import Tensor
from torch.nn import functional

from vol3d.config import Config

Shape3 = tuple[int, int, int]


class Patch(Config):
    """Patches of a fixed size; those of a list alone, `[64, 64, 64]`, lie anywhere alike.

    A patch that is drawn with a bias counts in the loss by p / q, the probability of its place without
    and with the bias. So the loss is, on average, that of patches that lie anywhere alike, and what is
    learnt of how common a structure is stays right.
    """

    size: tuple[PositiveInt, PositiveInt, PositiveInt]
    """Voxels along X, Y, Z. An image that is smaller gets zeros around it."""
    centre: float = Field(default=0.0, ge=0, le=1)
    """This share of the patches is drawn towards the centre, as in PatchDDM (Bieder et al. 2023)."""
    foreground: float = Field(default=0.0, ge=0, le=1)
    """This share has a random voxel of a structure, or of the brain, in its middle."""

    @model_validator(mode="after")
    def check_shares(self) -> "Patch":
        """Some patches lie anywhere, or the weights would have no bound."""
        if self.centre + self.foreground > 0.9:
            raise ValueError(
                f"centre={self.centre} and foreground={self.foreground}: leave a tenth of the patches "
                f"to lie anywhere, so that every place is learnt from"
            )
        return self

    def place(
        self, shape: Sequence[int], foreground: Tensor | None, rng: torch.Generator
    ) -> "Place":
        """Where the next patch lies.

        Args:
            shape: of the volume, [X, Y, Z].
            foreground: [X, Y, Z], true where a structure is; None: there is none.
            rng: of the place.
        """
        free = [n - size for n, size in zip(shape, self.size, strict=True)]
        if foreground is None or not foreground.any():
            foreground = None
        shares = [0.0 if foreground is None else self.foreground, self.centre]
        if not any(shares):
            return Place(tuple(uniform(f, rng) for f in free), self.size)
        u = float(torch.rand((), generator=rng))
        if u < shares[0]:
            voxels = foreground.nonzero()
            voxel = voxels[int(torch.randint(len(voxels), (), generator=rng))].tolist()
            start = [
                min(max(v - size // 2, 0), f) if f > 0 else f // 2
                for v, size, f in zip(voxel, self.size, free, strict=True)
            ]
        elif u < sum(shares):
            start = [central(f, rng) for f in free]
        else:
            start = [uniform(f, rng) for f in free]
        p = math.prod(1 / (max(f, 0) + 1) for f in free)
        q = (1 - sum(shares)) * p
        if shares[0]:
            q += shares[0] * self.share_around(start, foreground)
        q += shares[1] * math.prod(central_share(f, s) for f, s in zip(free, start, strict=True))
        return Place(tuple(start), self.size, p / q)

    def share_around(self, start: Sequence[int], foreground: Tensor) -> float:
        """Which share of the foreground's voxels would have a patch just here."""
        around = foreground
        for axis, (s, size, n) in enumerate(zip(start, self.size, foreground.shape, strict=True)):
            free = n - size
            if free <= 0:
                continue
            first = 0 if s == 0 else s + size // 2
            end = n if s == free else s + size // 2 + 1
            around = around.narrow(axis, first, end - first)
        return float(around.sum() / foreground.sum())


class Place:
    """Where a patch lies in a volume.

    Args:
        start: its first voxel along X, Y, Z; below 0 where the volume is smaller.
        size: its voxels along each.
        weight: how much it counts.
    """

    def __init__(self, start: Shape3, size: Shape3, weight: float = 1.0) -> None:
        self.start, self.size, self.weight = start, size, weight

    def of(self, x: Tensor) -> Tensor:
        """The patch [C, x, y, z] of a volume [C, X, Y, Z]; zeros beyond its edge."""
        pads: list[int] = []
        for axis, (start, size) in enumerate(zip(self.start, self.size, strict=True), start=1):
            n = x.shape[axis]
            first, end = max(start, 0), min(start + size, n)
            x = x.narrow(axis, first, end - first)
            pads = [first - start, start + size - end, *pads]
        return functional.pad(x, pads) if any(pads) else x

    def frame(self, shape: Sequence[int]) -> "Place":
        """The whole volume, enlarged where the patch is larger."""
        start = tuple(min(s, 0) for s in self.start)
        return Place(start, tuple(map(max, shape, self.size)))


def whole(shape: Sequence[int]) -> Place:
    """All of a volume."""
    return Place((0, 0, 0), tuple(shape))


def uniform(free: int, rng: torch.Generator) -> int:
    """A start from 0 to `free`, each alike; half of what is lacking if the volume is smaller."""
    return int(torch.randint(free + 1, (), generator=rng)) if free > 0 else free // 2


def central(free: int, rng: torch.Generator) -> int:
    """A start towards the middle: PatchDDM's, the sum of two uniform ones, of a quarter and the rest."""
    if free <= 0:
        return free // 2
    return uniform(free // 4, rng) + uniform(free - free // 4, rng)


def central_share(free: int, start: int) -> float:
    """The probability of a start by `central`."""
    if free <= 0:
        return 1.0
    a, b = free // 4, free - free // 4
    ways = min(start, a) - max(0, start - b) + 1
    return ways / ((a + 1) * (b + 1))


def from_list(given: Any) -> Any:
    """A list is a size."""
    return {"size": given} if isinstance(given, list | tuple) else given


Patches = Annotated[Patch | None, BeforeValidator(from_list)]
"""Random patches to train on: their size [64, 64, 64], or with more; null trains on whole volumes."""
