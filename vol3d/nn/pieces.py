"""A volume in pieces along X, with the moments of its channels.

In training the pieces are views of a whole volume. In inference each is memory of its own, which the
next layer gives back as soon as it has read it: two volumes then take hardly more room than one, and
nothing is copied to put one together.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor

from vol3d.nn.moments import Moments

LAYOUT = torch.channels_last_3d
Cuts = list[tuple[int, int]]
"""First plane of each piece, and the one after its last."""


class Pieces:
    """One image [1, C, X, Y, Z]."""

    def __init__(self) -> None:
        self.cuts: Cuts = []
        self.moments = Moments()
        self.pieces: list[Tensor | None] = []

    @classmethod
    def of(cls, x: Tensor, cuts: Sequence[tuple[int, int]], measured: bool = False) -> "Pieces":
        """Views of a whole image; with moments if something asks for its norm."""
        self = cls()
        for i, j in cuts:
            self.append(x[:, :, i:j], measured)
        return self

    def append(self, piece: Tensor, measured: bool = True) -> None:
        """The next planes; to be measured at once is cheapest, while they are in the cache."""
        start = self.planes
        self.cuts.append((start, start + piece.shape[2]))
        self.pieces.append(piece.contiguous(memory_format=LAYOUT))
        if measured:
            self.moments.add(self.last)

    @property
    def planes(self) -> int:
        """Along X."""
        return self.cuts[-1][1] if self.cuts else 0

    @property
    def last(self) -> Tensor:
        """The piece that goes last, which tells type, device and the other sizes."""
        return self.pieces[-1]

    def parts(self, i: int, j: int) -> Iterator[tuple[int, Tensor]]:
        """Planes [i, j) as they lie: the first plane, and a view, of each part."""
        for (start, end), piece in zip(self.cuts, self.pieces, strict=True):
            if start < j and i < end:
                first = max(i, start)
                yield first, piece[:, :, first - start : min(j, end) - start]

    def between(self, i: int, j: int) -> Tensor:
        """Planes [i, j), zero where there are none; a view if one piece has them all."""
        parts = [part for _, part in self.parts(i, j)]
        x = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
        before, after = max(0, -i), max(0, j - self.planes)
        return nnf.pad(x, (0, 0, 0, 0, before, after)) if before or after else x

    def forget(self, i: int) -> None:
        """Give back what lies before plane i, but for the last piece."""
        for n, (_, end) in enumerate(self.cuts[:-1]):
            if end <= i:
                self.pieces[n] = None

    def whole(self) -> Tensor:
        """The image in one."""
        return self.between(0, self.planes)
