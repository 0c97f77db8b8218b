"""One scan, from the raw head to the brain on the template's grid."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from pydantic import field_validator

from vol3d.config import Config
from vol3d.data.dice import dice
from vol3d.data.label_map import whole_labels
from vol3d.data.preparation import qc
from vol3d.data.preparation.alignment import (
    fit,
    move,
    move_mask,
    nearest_rigid,
    stretch,
    template_mask,
    template_volume,
)
from vol3d.data.preparation.bias import BiasField
from vol3d.data.preparation.head import brain_of, read_head
from vol3d.data.preparation.intensity import scaled
from vol3d.data.preparation.masks import Found, Mask, Own
from vol3d.data.preparation.other_contrasts import Beside, prepare_beside
from vol3d.data.preparation.ventricles import ventricles_ml
from vol3d.data.visit import Visit
from vol3d.errors import DataError
from vol3d.volume import Grid, Volume, mni_grid

QC_MM = 2.0
"""Checks are made on the template at this spacing, whatever the grid."""


STAGES = ("brain mask", "bias field", "alignment", "resampling", "files")
"""What a scan goes through, as it is told while it does."""


def ignore(stage: str) -> None:
    """For whoever does not ask how far a scan is."""


class Steps(Config):
    """What is done to every scan."""

    grid: str = "2mm"
    """Voxel size on the field of view of 160 x 224 x 160 mm: 1mm, 2mm, 4mm or any other."""
    align: Literal["rigid", "affine"] = "rigid"
    """rigid keeps the sizes of brains; affine gives them all the template's."""
    mask: Mask = Own()
    """How the brain is found: own (the data set's, else template), template, or command."""
    bias: BiasField | None = BiasField()
    """N4 bias field correction; null leaves it out."""

    @field_validator("grid", mode="before")
    @classmethod
    def names_a_spacing(cls, grid: object) -> str:
        """A number of mm, with or without the unit."""
        try:
            spacing = float(str(grid).removesuffix("mm"))
        except ValueError:
            spacing = 0.0
        if not 0.5 <= spacing <= 8:
            raise ValueError(f"'{grid}': a voxel size of 0.5mm to 8mm is due, for example 2mm")
        return f"{spacing:g}mm"

    @property
    def spacing(self) -> float:
        """Voxel size in mm."""
        return float(self.grid.removesuffix("mm"))


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan that was prepared.

    Attributes:
        image: the brain on the template's grid, on the scale of the networks; 0 outside.
        mask: where the brain is.
        transform: from points of the template to points of the scan (LPS+, mm).
        native: the grid of the raw file.
        offset: the constant that was put on the raw intensities, so that nothing is 0.
        one: the raw intensity that became 1, after that, and after the bias field was divided out.
        measures: the numbers of the QC table.
    """

    image: Volume
    mask: Volume
    labels: Volume | None
    transform: sitk.Transform
    native: Grid
    found: Found
    offset: float
    one: float
    measures: dict[str, float | None]
    beside: dict[str, Beside]


def prepare(
    scan: Visit, folder: Path, steps: Steps, on_stage: Callable[[str], None] = ignore
) -> Prepared:
    """Mask, bias field, alignment, resampling and intensity, in this order; then the other contrasts.

    Raises:
        DataError: a file is not as it should be, or no brain was found.
    """
    head, native, offset = read_head(scan.image, scan.form)
    on_stage("brain mask")
    found = steps.mask.find(head, scan, folder)
    mask = found.mask
    inside = mask.data > 0
    if not (head.data[inside] > 0).any():
        raise DataError(f"{scan.image}: nothing is above 0 inside the brain mask; check both")
    on_stage("bias field")
    brain, field = brain_of(head, mask, steps.bias)
    on_stage("alignment")
    affine = fit(brain, mask)
    transform = affine if steps.align == "affine" else nearest_rigid(affine)

    on_stage("resampling")
    grid = mni_grid(steps.spacing)
    moved_mask = move_mask(mask, transform, grid)
    moved = move(brain, transform, grid).data * moved_mask.data
    if not (moved > 0).any():
        raise DataError(f"{scan.name}: the alignment lost the brain; look at the raw scan")
    data, one = scaled(moved)
    image = Volume(data, grid.affine, 4)
    others = {c: path for c, path in scan.images.items() if path != scan.image}
    beside = {
        c: prepare_beside(path, scan.form, brain, mask, transform, image, steps.bias)
        for c, path in others.items()
    }
    labels = read_labels(scan, native)
    low, high = np.percentile(field[inside], [1, 99])
    fluid = ventricles_ml(brain, mask, affine) if "_T1w." in scan.image.name else None
    ml = mask.grid.volume_ml(inside)
    return Prepared(
        image=image,
        mask=moved_mask,
        labels=move(labels, transform, grid, nearest=True) if labels else None,
        transform=transform,
        native=native,
        found=found,
        offset=offset,
        one=one,
        measures={
            **likeness(brain, mask, transform),
            "brain_ml": round(ml, 1),
            "ventricles_ml": None if fluid is None else round(fluid, 2),
            "filled": round(ml / fitted_ml(affine), 4),
            "cut_percent": round(100 * outside(mask, transform, grid), 2),
            "bias_range": round(float(high / low), 3),
            "offset": round(offset, 4),
            **{f"moved_mm_{c}": b.moved_mm for c, b in beside.items()},
            **{f"nmi_{c}": b.nmi for c, b in beside.items()},
        },
        beside=beside,
    )


def read_labels(scan: Visit, native: Grid) -> Volume | None:
    """The scan's label map, which lies on the scan's grid."""
    if scan.label_map is None:
        return None
    labels = Volume.read(scan.label_map, scan.form)
    if not labels.grid.matches(native, tolerance_mm=0.01):
        raise DataError(
            f"{scan.label_map}: lies on a grid of {labels.grid}, the scan on {native} (or elsewhere in "
            f"the world); resample it onto the scan"
        )
    whole = whole_labels(labels, scan.label_map).data
    return Volume(whole, labels.affine).reorient("RAS")


def likeness(brain: Volume, mask: Volume, transform: sitk.Transform) -> dict[str, float]:
    """How well the brain lies on the template, 2 mm apart: NMI in either brain; both masks."""
    template, theirs = template_volume(QC_MM), template_mask(QC_MM)
    moved = move(brain, transform, template.grid)
    ours = move(Volume(mask.data.astype(np.float32), mask.affine), transform, template.grid)
    either = (ours.data > 0.5) | (theirs.data > 0)
    nmi = qc.normalised_mutual_information(template.data[either], moved.data[either])
    masks = ours.data > 0.5, theirs.data > 0
    return {
        "nmi": round(nmi, 4),
        "dice": round(dice(*masks), 4),
        "overlap": round(qc.overlap(*masks), 4),
    }


def fitted_ml(affine: sitk.AffineTransform) -> float:
    """The volume of the template's brain, stretched onto a brain."""
    template = template_mask(QC_MM)
    return stretch(affine) * template.grid.volume_ml(template.data > 0)


def outside(mask: Volume, transform: sitk.Transform, grid: Grid) -> float:
    """Which share of the brain lies outside the field of view."""
    field = Volume(np.ones(grid.shape, np.uint8), grid.affine)
    seen = move(field, transform.GetInverse(), mask.grid, nearest=True)
    return float(1 - seen.data[mask.data > 0].mean())
