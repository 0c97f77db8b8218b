"""What is under the cursor: the place in mm, and of each layer the voxel and its value in the file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vol3d.viewer.axes import turned
from vol3d.viewer.layers import OURS, Original

DIGITS = 4


@dataclass(frozen=True)
class Reading:
    """What one layer has at a place.

    Attributes:
        layer: its name.
        voxel: index X, Y, Z in the file.
        value: of that voxel of the original, not of what is drawn.
        words: what a label is called, or the unit of a value; "" where nothing is known.
    """

    layer: str
    voxel: tuple[int, int, int]
    value: float
    words: str = ""

    def __str__(self) -> str:
        voxel = ", ".join(map(str, self.voxel))
        words = f" {self.words}" if self.words else ""
        return f"{self.layer}: {self.value:.{DIGITS}g}{words} [{voxel}]"


def world_of(position: Sequence[float]) -> np.ndarray:
    """x, y, z in mm, RAS+, of a position in napari's world; axes before, such as a member's, are left."""
    return turned(np.asarray(position, float)[-3:])


def position_of(point: Sequence[float], ndim: int = 3) -> np.ndarray:
    """Where a point x, y, z in mm is in napari's world of `ndim` axes."""
    return np.concatenate([np.zeros(ndim - 3), turned(np.asarray(point, float))])


def reading_of(original: Original, point: np.ndarray, frame: int = 0) -> Reading | None:
    """The nearest voxel of what a layer was made of; None outside of it. Its layer has no name yet."""
    at = np.linalg.solve(original.grid.affine, [*point, 1.0])[:3]
    voxel = tuple(int(i) for i in np.rint(at))
    if not all(0 <= i < n for i, n in zip(voxel, original.grid.shape, strict=True)):
        return None
    value = float(original.frames[frame].data[voxel])
    words = original.names.get(int(value), "") if original.is_labels else original.unit
    return Reading("", voxel, value, words)


def readings(layers: Iterable[Any], position: Sequence[float]) -> list[Reading]:
    """What the visible layers have at a position of napari's world, the uppermost first."""
    found = []
    for layer in layers:
        original = layer.metadata.get(OURS)
        if not layer.visible or original is None:
            continue
        last = len(original.frames) - 1
        frame = min(max(round(float(position[0])), 0), last) if len(position) > 3 else 0
        if reading := reading_of(original, world_of(position), frame):
            found.append(Reading(layer.name, reading.voxel, reading.value, reading.words))
    return found[::-1]


def told(layers: Iterable[Any], position: Sequence[float]) -> str:
    """One line on a place; "" of a picture, which has none in the head."""
    if len(position) < 3:
        return ""
    x, y, z = world_of(position)
    place = f"x {x:.1f}, y {y:.1f}, z {z:.1f} mm"
    return "   ".join([place, *map(str, readings(layers, position))])
