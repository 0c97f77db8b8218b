"""Other contrasts of a visit, aligned to its first: T2w and FLAIR go where the T1w goes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from vol3d.data.preparation import qc
from vol3d.data.preparation.alignment import centre_mm, descend, dilated, floats, move, move_mask
from vol3d.data.preparation.bias import BiasField
from vol3d.data.preparation.head import brain_of, read_head
from vol3d.data.preparation.intensity import scaled
from vol3d.errors import DataError
from vol3d.grid import LPS, Grid
from vol3d.io.header import Form
from vol3d.volume import Volume

RIM_MM = 4.0
"""The metric looks at the brain and this much around it."""


@dataclass(frozen=True, eq=False)
class Beside:
    """Another contrast of a visit that was prepared.

    Attributes:
        image: the brain on the template's grid, on the scale of the networks; 0 outside.
        transform: from points of the template to points of the scan (LPS+, mm).
        native: the grid of the raw file.
        offset: the constant that was put on the raw intensities.
        one: the raw intensity that became 1.
        moved_mm: how far the registration moved the brain from where the headers put it, on average.
        nmi: normalised mutual information with the first contrast, within the brain.
    """

    image: Volume
    transform: sitk.Transform
    native: Grid
    offset: float
    one: float
    moved_mm: float
    nmi: float


def prepare_beside(
    path: Path,
    form: Form | None,
    brain: Volume,
    mask: Volume,
    transform: sitk.Transform,
    prepared: Volume,
    bias: BiasField | None,
) -> Beside:
    """Rigid registration to the first contrast, bias field, one resampling, and intensity.

    Args:
        path: the scan.
        form: see `Volume.read`.
        brain: the first contrast, 0 outside of its brain.
        mask: where that brain is.
        transform: from the template to the first contrast.
        prepared: the first contrast on the template's grid, 0 outside of the brain.
        bias: how the bias field is estimated; None leaves it out.

    Raises:
        DataError: the file is not as it should be, or nothing of it lies where the brain is.
    """
    head, native, offset = read_head(path, form)
    rigid = rigid_between(brain, head, mask)
    inside = move_mask(mask, rigid.GetInverse(), head.grid)
    if not (head.data[inside.data] > 0).any():
        raise DataError(f"{path}: nothing of it lies where the brain of the first contrast is")
    theirs, _ = brain_of(head, inside, bias)
    whole = composed(rigid, transform)
    within = prepared.data > 0
    data, one = scaled(move(theirs, whole, prepared.grid).data * within)
    return Beside(
        image=Volume(data, prepared.affine, 4),
        transform=whole,
        native=native,
        offset=offset,
        one=one,
        moved_mm=round(moved_mm(rigid, mask), 2),
        nmi=round(qc.normalised_mutual_information(prepared.data[within], data[within]), 4),
    )


def rigid_between(brain: Volume, other: Volume, mask: Volume) -> sitk.Euler3DTransform:
    """From points of a brain to points of another contrast of the same head, from where both lie."""
    start = sitk.Euler3DTransform()
    start.SetCenter((LPS @ centre_mm(mask)).tolist())
    return descend(floats(brain), floats(other), dilated(mask, RIM_MM), start, shrink=[4, 2])


def composed(second: sitk.Transform, first: sitk.Transform) -> sitk.AffineTransform:
    """Two linear transforms as one: the second of what the first gives."""
    origin, *axes = (
        np.array(second.TransformPoint(first.TransformPoint(p)))
        for p in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    )
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(np.stack([a - origin for a in axes], 1).ravel().tolist())
    affine.SetTranslation(origin.tolist())
    return affine


def moved_mm(rigid: sitk.Transform, mask: Volume) -> float:
    """How far a transform moves the voxels of a mask on average."""
    index = np.argwhere(mask.data > 0)[::997]
    points = (LPS @ (index @ mask.affine[:3, :3].T + mask.affine[:3, 3]).T).T
    moved = np.array([rigid.TransformPoint(p.tolist()) for p in points])
    return float(np.linalg.norm(moved - points, axis=1).mean())
