"""Transforms: where each point of the fixed volume lies in the moving one, T(fixed point) = moving point.

They are SimpleITK's, in mm, LPS+, as alignment makes them and ITK's files hold them; the functions here
speak RAS+. To move an *image* the other way, onto the fixed volume's grid, each voxel of that grid is
sent through T and the moving image is read there; several transforms are one chain, read once.
"""

import logging
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from vol3d.errors import DataError
from vol3d.grid import LPS, Grid, grid_of, placed
from vol3d.transforms.displacement import jacobian, to_mm, to_voxels

log = logging.getLogger(__name__)
SMALL_VOXELS = 1e-3
"""A field that moves its faces by less keeps its grid."""
MISSED_VOXELS = 0.5
"""By how much an inverse may miss."""


def affine(matrix: np.ndarray) -> sitk.AffineTransform:
    """The transform of a matrix [4, 4] in mm, RAS+, from fixed to moving."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((LPS @ matrix[:3, :3] @ LPS).ravel().tolist())
    transform.SetTranslation((LPS @ matrix[:3, 3]).tolist())
    return transform


def matrix_of(transform: sitk.Transform) -> np.ndarray:
    """The matrix [4, 4] in mm, RAS+, of a transform that is linear."""
    corner, *ends = move_points(transform, np.vstack([np.zeros(3), np.eye(3)]))
    matrix = np.eye(4)
    matrix[:3, :3] = (np.array(ends) - corner).T
    matrix[:3, 3] = corner
    return matrix


def field(u: np.ndarray, grid: Grid) -> sitk.DisplacementFieldTransform:
    """The transform x -> x + u(x), linear between voxels; beyond half a voxel outside, x stays.

    Args:
        u: [3, X, Y, Z] mm, RAS+.
        grid: where its voxels lie.
    """
    vectors = np.einsum("ij,jxyz->zyxi", LPS, u.astype(np.float64))
    image = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
    return sitk.DisplacementFieldTransform(placed(image, grid))


def field_of(transform: sitk.DisplacementFieldTransform) -> tuple[np.ndarray, Grid]:
    """The displacement u [3, X, Y, Z] in mm, RAS+, of a field, and its grid."""
    image = transform.GetDisplacementField()
    return vectors_of(image), grid_of(image)


def vectors_of(image: sitk.Image) -> np.ndarray:
    """The vectors of an image, from LPS+ to RAS+: [3, X, Y, Z]."""
    return np.einsum("ij,zyxj->ixyz", LPS, sitk.GetArrayViewFromImage(image))


def chain(transforms: Sequence[sitk.Transform]) -> sitk.CompositeTransform:
    """One after the other: a point goes through the first, then the second, and so on."""
    every = [part for transform in transforms for part in parts(transform)]
    return sitk.CompositeTransform(every[::-1])  # ITK's acts from its end


def parts(transform: sitk.Transform) -> list[sitk.Transform]:
    """What a transform is made of, in the order in which a point goes through it."""
    if transform.GetName() != "CompositeTransform":
        return [transform.Downcast()]
    composite = sitk.CompositeTransform(transform)
    last = composite.GetNumberOfTransforms() - 1
    return [p for n in range(last, -1, -1) for p in parts(composite.GetNthTransform(n))]


def move_points(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Points [n, 3] of the fixed volume to where they lie in the moving one, mm, RAS+."""
    moved = [transform.TransformPoint(p) for p in (points @ LPS).tolist()]
    return np.array(moved).reshape(-1, 3) @ LPS


def sampled(transform: sitk.Transform, grid: Grid) -> np.ndarray:
    """The displacement [3, X, Y, Z] in mm, RAS+, of any transform at the voxels of a grid."""
    there = placed(sitk.Image(1, 1, 1, sitk.sitkUInt8), grid)
    image = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        list(grid.shape),
        there.GetOrigin(),
        there.GetSpacing(),
        there.GetDirection(),
    )
    return vectors_of(image)


def inverse(transform: sitk.Transform) -> sitk.Transform:
    """The way back, from points of the moving volume to those of the fixed one.

    Fields are inverted on their own grid, widened by as far as they move its faces.

    Raises:
        DataError: a field folds, a matrix flattens, or it is of a kind that has no inverse here.
    """
    return chain([inverse_of_part(part) for part in reversed(parts(transform))])


def inverse_of_part(part: sitk.Transform) -> sitk.Transform:
    """The way back through a transform that is no chain."""
    if part.GetName() == "DisplacementFieldTransform":
        return inverse_of_field(sitk.DisplacementFieldTransform(part))
    try:
        return part.GetInverse()
    except RuntimeError:
        raise DataError(
            f"this {part.GetName()} has no inverse here; name the file of the inverse transform instead"
        ) from None


def inverse_of_field(forward: sitk.DisplacementFieldTransform) -> sitk.DisplacementFieldTransform:
    """The way back through a field: fixed points of v(y) = -u(y + v(y)).

    Raises:
        DataError: there is none within half a voxel.
    """
    import torch  # here: it takes seconds to load, and few transforms are inverted

    from vol3d.transforms.inversion import invert

    u, grid = field_of(forward)
    if folded := float((jacobian(u, grid) <= 0).mean()):
        log.warning(
            "warning: a field folds in %.2f%% of its voxels, and there the way back is one of several",
            100 * folded,
        )
    w = to_voxels(u, grid)
    faces = [np.take(w, (0, -1), axis=1 + a) for a in range(3)]  # what leaves goes through them
    rim = int(np.ceil(max(np.abs(face).max() for face in faces) - SMALL_VOXELS))
    wide = np.pad(w.astype(np.float32), [(0, 0), *[(rim, rim)] * 3], mode="edge")
    v, miss = (t.numpy()[0] for t in invert(torch.from_numpy(wide)[None]))
    y = np.indices(v.shape[1:]) + v - rim  # where the voxels of the wide grid come from
    size = np.array(grid.shape)[:, None, None, None]
    is_within = ((y >= 0) & (y <= size - 1)).all(0)
    if (missed := miss[0][is_within]).size and missed.max() > MISSED_VOXELS:
        raise DataError(
            f"the field has no inverse: it folds, or nearly so, in {(missed > MISSED_VOXELS).mean():.2%} "
            f"of its voxels; smooth it, or name the file of the inverse transform instead"
        )
    return field(to_mm(v.astype(np.float64), grid), grid.padded(rim))
