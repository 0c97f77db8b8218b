"""A volume in slabs along X, with the moments of its channels.

In training they are views of a volume that is kept. In inference a layer writes its output over its
input, slab by slab, as soon as that is read, or into what an earlier layer has left over: memory is
fetched once, where a volume is made larger, and not cleared by the system at every layer.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor

from vol3d.nn.norm_ops import Moments, brought

LAYOUT = torch.channels_last_3d
Cuts = list[tuple[int, int]]
"""First plane of each slab, and the one after its last."""


class Slabbed:
    """One image [1, C, X, Y, Z]."""

    def __init__(self) -> None:
        self.is_kept = False
        """Whether something else wants it later, so that no layer writes over it."""
        self.beside: Slabbed | None = None
        """Another image, cut alike, whose channels follow: together they exist a part at a time."""
        self.cuts: Cuts = []
        self.moments = Moments()
        self.slabs: list[Tensor] = []
        self.spare: list[Tensor | None] = []
        """Memory beside each slab that nothing needs any more, in one dimension."""

    @classmethod
    def of(cls, x: Tensor, cuts: Sequence[tuple[int, int]], measured: bool = False) -> "Slabbed":
        """Views of a whole image; with moments if something asks for its norm."""
        self = cls()
        for i, j in cuts:
            self.append(x[:, :, i:j], measured)
        return self

    def append(
        self,
        slab: Tensor,
        measured: bool = True,
        spare: Tensor | None = None,
        told: Tensor | None = None,
    ) -> None:
        """The next planes; to be measured at once is cheapest, while they are in the cache.

        Args:
            slab: [1, C, X, Y, Z].
            measured: whether something asks for their norm.
            spare: memory beside them.
            told: their mean and variance, if known.
        """
        start = self.planes
        self.cuts.append((start, start + slab.shape[2]))
        self.slabs.append(slab.contiguous(memory_format=LAYOUT))
        self.spare.append(spare)
        if measured:
            self.moments.add(self.last, told)

    def put_beside(self, other: "Slabbed") -> None:
        """Channels of another image, cut alike."""
        assert self.cuts == other.cuts
        self.beside, told = other, zip(self.moments.told, other.moments.told, strict=True)
        self.moments.told = [torch.cat(both, 1) for both in told]

    def bring(self, made: Tensor, memory: Tensor | None) -> None:
        """The next planes, moved into spare memory if they fit there."""
        slab = shaped(memory, made)
        if slab is None:
            self.append(made)
        else:
            self.append(slab, told=brought(made, slab, False))

    def add(self, made: Tensor, slab: Tensor, spare: Tensor) -> None:
        """The next planes, the sum of two; in the place of the second."""
        self.append(slab, spare=spare, told=brought(made, slab, True))

    @property
    def planes(self) -> int:
        """Along X."""
        return self.cuts[-1][1] if self.cuts else 0

    @property
    def shape(self) -> tuple[int, ...]:
        """[1, C, X, Y, Z]."""
        one, channels, _, *rest = self.last.shape
        channels += self.beside.shape[1] if self.beside else 0
        return one, channels, self.planes, *rest

    @property
    def last(self) -> Tensor:
        """Its last slab, which tells type, device and the other sizes."""
        return self.slabs[-1]

    def parts(self, i: int, j: int) -> Iterator[tuple[int, Tensor]]:
        """Planes [i, j) as they lie: the first plane, and a view, of each part."""
        for k, (start, end) in enumerate(self.cuts):
            if start < j and i < end:
                first = max(i, start)
                images = (self, self.beside) if self.beside else (self,)
                part = [x.slabs[k][:, :, first - start : min(j, end) - start] for x in images]
                both = torch.cat(part, 1) if self.beside else part[0]
                yield first, both.contiguous(memory_format=LAYOUT)

    def between(self, i: int, j: int) -> Tensor:
        """Planes [i, j), zero where there are none; a view if one slab has them all."""
        parts = [part for _, part in self.parts(i, j)]
        x = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
        before, after = max(0, -i), max(0, j - self.planes)
        return nnf.pad(x, (0, 0, 0, 0, before, after)) if before or after else x

    def whole(self) -> Tensor:
        """The image in one."""
        return self.between(0, self.planes)


def kept(h: Tensor | Slabbed) -> Tensor | Slabbed:
    """Features that are wanted later: in slabs, no layer writes over them."""
    if isinstance(h, Slabbed):
        h.is_kept = True
    return h


def whole(h: Tensor | Slabbed) -> Tensor:
    """Features in one piece; of slabs a copy, which no layer writes over."""
    return torch.cat([part for _, part in h.parts(0, h.planes)], 2) if isinstance(h, Slabbed) else h


def flat(slab: Tensor) -> Tensor:
    """The memory of a slab."""
    return slab.permute(0, 2, 3, 4, 1).reshape(-1)


def shaped(memory: Tensor | None, like: Tensor) -> Tensor | None:
    """The first of spare memory as a slab of the shape of another, if it fits there."""
    if memory is None or memory.numel() < like.numel():
        return None
    _, C, X, Y, Z = like.shape
    return memory[: like.numel()].view(1, X, Y, Z, C).permute(0, 4, 1, 2, 3)
