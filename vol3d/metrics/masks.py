"""Many masks of one structure on one grid, a bit a voxel, and how much they overlap."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Masks:
    """What members of an ensemble, or raters, say of one structure.

    Attributes:
        bits: [n, ceil(X Y Z / 8)] uint8, eight voxels a byte.
        shape: (X, Y, Z).
    """

    bits: np.ndarray
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, masks: Iterable[np.ndarray]) -> "Masks":
        """Pack masks [X, Y, Z] one after the other, so that they may be a stream.

        Raises:
            ValueError: no mask, or masks of different shapes.
        """
        rows, shapes = [], set()
        for mask in masks:
            shapes.add(mask.shape)
            rows.append(np.packbits(np.asarray(mask, bool)))
        if len(shapes) != 1:
            raise ValueError(f"masks are one or more of one shape [X, Y, Z], got {sorted(shapes)}")
        return cls(np.stack(rows), shapes.pop())

    def __len__(self) -> int:
        return len(self.bits)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Each mask in turn, [X, Y, Z] bool."""
        return (self.unpack(row) for row in self.bits)

    def unpack(self, row: np.ndarray) -> np.ndarray:
        """[X, Y, Z] bool of packed bits."""
        return np.unpackbits(row, count=int(np.prod(self.shape))).reshape(self.shape).view(bool)

    @property
    def volumes(self) -> np.ndarray:
        """[n] voxels in each mask."""
        return np.bitwise_count(self.bits).sum(1, dtype=np.int64)

    @property
    def union(self) -> np.ndarray:
        """[X, Y, Z] bool: the voxels that at least one mask has."""
        return self.unpack(np.bitwise_or.reduce(self.bits))

    def overlap(self, other: "Masks") -> np.ndarray:
        """[n, m] voxels that mask i of these shares with mask j of the others."""
        somewhere = np.bitwise_or.reduce(self.bits) != 0
        ours, theirs = self.bits[:, somewhere], other.bits[:, somewhere]
        counts = [np.bitwise_count(row & theirs).sum(1, dtype=np.int64) for row in ours]
        return np.stack(counts)


def bounding_box(mask: np.ndarray, margin: tuple[int, int, int] = (0, 0, 0)) -> Box:
    """The smallest box with all voxels of a mask, and so many voxels more within the volume.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("an empty mask has no bounding box")
    box = []
    for axis in range(3):
        along = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(max(0, int(along[0]) - margin[axis]), int(along[-1]) + 1 + margin[axis]))
    return tuple(box)
