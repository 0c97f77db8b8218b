"""Whether points meet a grid: the fields on their way through a transform, and the volume at its end."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from vol3d.grid import Grid, grid_of
from vol3d.transforms.transform import move_points, parts

ALONG = 16
"""So many voxels per axis stand for all of a grid."""


@dataclass(frozen=True)
class Overlap:
    """How points lie to a grid.

    Attributes:
        share: of the points, those that lie in one of its voxels.
        gap_mm: from the nearest point to the centre of the nearest voxel.
    """

    share: float
    gap_mm: float


def lattice(grid: Grid) -> np.ndarray:
    """Points [n, 3] in mm, RAS+, spread over a grid, its corner voxels among them."""
    along = [np.unique(np.linspace(0, n - 1, ALONG).round()) for n in grid.shape]
    index = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, 3)
    return index @ grid.affine[:3, :3].T + grid.origin


def overlap(points: np.ndarray, grid: Grid) -> Overlap:
    """How points [n, 3] in mm, RAS+, lie to a grid."""
    index = (points - grid.origin) @ np.linalg.inv(grid.affine[:3, :3]).T
    last = np.array(grid.shape) - 1
    is_inside = ((index > -0.5) & (index < last + 0.5)).all(1)
    gaps = (index - index.clip(0, last)) @ grid.affine[:3, :3].T
    return Overlap(float(is_inside.mean()), float(np.linalg.norm(gaps, axis=1).min()))


def overlaps_with_fields(transform: sitk.Transform, points: np.ndarray) -> list[Overlap]:
    """How points [n, 3] in mm, RAS+, lie to each displacement field of a chain, as they get there."""
    found = []
    for part in parts(transform):
        if part.GetName() == "DisplacementFieldTransform":
            vectors = sitk.DisplacementFieldTransform(part).GetDisplacementField()
            found.append(overlap(points, grid_of(vectors)))
        points = move_points(part, points)
    return found
