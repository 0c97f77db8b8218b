"""A registration as it is looked at: moving on fixed, where points go, and where space folds.

The path leads from nothing (t = 0) to the whole (t = 1). Where `vol3d register` kept the velocities of a
transform, it is their flow, which folds nowhere; of another transform it is x + t u(x).
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vol3d.errors import DataError
from vol3d.metrics.folding import folding, non_diffeomorphic_volume
from vol3d.transforms.displacement import log_jacobian
from vol3d.transforms.resample import move_image
from vol3d.transforms.transform import field, sampled
from vol3d.transforms.transform_file import read_transform
from vol3d.viewer.layers import limits_of
from vol3d.viewer.layers import sampled as field_at
from vol3d.viewer.straight import world_box
from vol3d.volume import Grid, Volume

if TYPE_CHECKING:
    from vol3d.transforms.velocity_file import Flow

VELOCITIES = ".safetensors"
"""The ending of their file, as in `vol3d.transforms.velocity_file`, which loads torch."""
KEPT = 4
"""Steps of the path that are kept, for a slider that goes back and forth."""
SHUT = -5.0
"""Of log det J: a volume that has become 150 times smaller."""


@dataclass(frozen=True, eq=False)
class GridLines:
    """A grid of the fixed image in a plane of the world, and where its lines go.

    Attributes:
        starts: [n, 3] mm, RAS+, where pieces of lines begin after the transform.
        along: [n, 3] mm, from there to their ends.
        axis: of the world, 0 to 2, across the plane.
        at_mm: where the plane is.
    """

    starts: np.ndarray
    along: np.ndarray
    axis: int
    at_mm: float


class Registration:
    """A fixed and a moving image, and the transform from points of the one to points of the other.

    Attributes:
        fixed: the image that stays.
        moving: the image that is moved onto it; None where all that is there of it is `registered`.
        u: [3, X, Y, Z] the whole displacement, mm, RAS+, on the fixed image's grid.
        flow: whose end u is; None where nobody kept its velocities.
        registered: the moving image at the end of the path, where somebody else moved it.
    """

    def __init__(
        self,
        fixed: Volume,
        moving: Volume | None,
        u: np.ndarray,
        flow: "Flow | None" = None,
        registered: Volume | None = None,
    ) -> None:
        self.fixed, self.moving, self.u, self.flow = fixed, moving, u, flow
        self.registered = registered
        self.step = lru_cache(KEPT)(self._step)

    @classmethod
    def read(
        cls, fixed: Path, moving: Path | None, transform: Path, registered: Path | None = None
    ) -> "Registration":
        """Read all from files.

        Args:
            fixed: the image that stays.
            moving: the image that is moved; None: the end of the path is all that can be seen.
            transform: from points of the fixed image to points of the moving one (docs/transforms.md);
                its velocities lie beside it, where they were kept.
            registered: the moving image on the fixed one's grid, where it is there already.

        Raises:
            DataError: a file cannot be read, or `registered` lies on another grid.
        """
        at = Volume.read(fixed)
        u = sampled(read_transform(transform), at.grid).astype(np.float32)
        flow = None
        if transform.with_suffix(VELOCITIES).is_file():
            from vol3d.transforms.velocity_file import read_flow  # here: only velocities need torch

            flow = read_flow(transform.with_suffix(VELOCITIES))
        there, moved = (Volume.read(path) if path else None for path in (moving, registered))
        if moved is not None and not moved.grid.matches(at.grid, tolerance_mm=0.01):
            raise DataError(f"{registered}: lies on another grid than {fixed}; register it anew")
        return cls(at, there, u, flow, moved)

    @property
    def grid(self) -> Grid:
        """Of the fixed image, the field and all that is shown."""
        return self.fixed.grid

    def _step(self, t: float) -> "Step":
        return Step(self, t)

    def displacement(self, t: float) -> np.ndarray:
        """Where points have gone at t of the path: [3, X, Y, Z] mm, RAS+."""
        if t in (0, 1) or self.flow is None:
            return self.u * np.float32(t)
        return sampled(self.flow.at(t), self.grid).astype(np.float32)


class Step:
    """All that is seen at one place of the path.

    Attributes:
        u: see `Registration.displacement`.
        moved: the moving image on the fixed one's grid.
    """

    def __init__(self, of: Registration, t: float) -> None:
        self.of, self.t, self.grid = of, t, of.grid
        self.u = of.displacement(t)
        is_there = t == 1 and of.registered is not None
        self.moved = (
            of.registered
            if is_there
            else move_image(of.moving, field(self.u, self.grid), self.grid)
        )

    def log_jacobian(self) -> Volume:
        """log det J: below 0 where the fixed image's voxel is smaller in the moving one.

        Where the determinant is 0 or less it has none, and `SHUT` stands there, or less. NaN where the
        fixed image is 0: outside of a stripped brain.
        """
        found = log_jacobian(self.u, self.grid)
        lowest = min(SHUT, float(np.nanmin(found, initial=0.0)))
        found = np.where(self.of.fixed.data != 0, np.nan_to_num(found, nan=lowest), np.nan)
        return Volume(found.astype(np.float32), self.grid.affine)

    def folded(self) -> Volume:
        """Voxels at which a tetrahedron is turned inside out (`vol3d.metrics.folding`)."""
        turned = non_diffeomorphic_volume(self.u, self.grid) > 0
        return Volume(turned.astype(np.uint8), self.grid.affine)

    def summary(self) -> str:
        """How far points go, and what folds, in a line; where the fixed image is not 0."""
        inside = self.of.fixed.data != 0
        told = folding(self.u, self.grid, inside)
        furthest = float(np.sqrt((self.u[:, inside] ** 2).sum(0).max()))
        return (
            f"furthest {furthest:.1f} mm; folded voxels {told['folded_percent']:.3f} %, "
            f"folded volume (NDV) {told['ndv_percent']:.3f} %; smallest det J "
            f"{told['min_jacobian']:.2f}"
        )

    def grid_lines(self, axis: int, at_mm: float, step_mm: float) -> GridLines:
        """The grid in a plane across one axis of the world, after the transform.

        Args:
            axis: 0 to 2: x, y or z is the same all over the plane.
            at_mm: where.
            step_mm: between lines.
        """
        fine = min(self.grid.spacing)
        box = world_box(self.grid)
        across = [a for a in range(3) if a != axis]
        starts, ends = [], []
        for along, other in (across, across[::-1]):
            s = np.arange(box[0][along], box[1][along] + fine / 2, fine)
            lines = np.arange(
                np.ceil(box[0][other] / step_mm) * step_mm, box[1][other] + 1e-6, step_mm
            )
            points = np.empty((len(lines), len(s), 3))
            points[..., axis] = at_mm
            points[..., along] = s
            points[..., other] = lines[:, None]
            flat = points.reshape(-1, 3)
            u, is_inside = field_at(self.u, self.grid, flat.T)
            there = (flat + u.T).reshape(points.shape)
            is_inside = is_inside.reshape(points.shape[:2])
            both = is_inside[:, :-1] & is_inside[:, 1:]
            starts.append(there[:, :-1][both])
            ends.append(there[:, 1:][both])
        begin, end = np.concatenate(starts), np.concatenate(ends)
        return GridLines(begin, end - begin, axis, at_mm)


# -- two images as one ----------------------------------------------------------------------------


def checkerboard(fixed: Volume, moved: Volume, square_mm: float) -> Volume:
    """Squares of the one and the other in turn, each image from black to white; on the same grid.

    Args:
        fixed: the one.
        moved: the other, on its grid.
        square_mm: their side, along the grid's axes.
    """
    index = np.indices(fixed.shape, sparse=True)
    steps = [i * s // square_mm for i, s in zip(index, fixed.spacing, strict=True)]
    return chosen(fixed, moved, sum(steps) % 2 == 1)


def swipe(fixed: Volume, moved: Volume, share: float, axis: int = 0) -> Volume:
    """The moved image on one side of a plane, the fixed one on the other.

    Args:
        fixed: the one.
        moved: the other, on its grid.
        share: where the plane is: 0 shows the fixed image alone, 1 the moved one.
        axis: of the world that it is across: 0 goes from left to right.
    """
    box = world_box(fixed.grid)
    at = box[0][axis] + share * (box[1][axis] - box[0][axis])
    row = fixed.affine[axis]
    index = np.indices(fixed.shape, sparse=True)
    place = sum(row[i] * index[i] for i in range(3)) + row[3]  # [X, Y, Z] mm
    return chosen(fixed, moved, np.broadcast_to(place < at, fixed.shape))


def chosen(fixed: Volume, moved: Volume, is_moved: np.ndarray) -> Volume:
    """Each voxel of one of two images, from black (0) to white (1) in both."""
    data = np.where(is_moved, scaled(moved), scaled(fixed))
    return Volume(data, fixed.affine, fixed.space_code)


def scaled(volume: Volume) -> np.ndarray:
    """Values with 0 for black and 1 for white, as the image is shown alone."""
    low, high = limits_of(volume)
    return ((volume.data - low) / (high - low)).astype(np.float32)
