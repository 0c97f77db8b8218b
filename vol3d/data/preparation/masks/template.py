"""A built-in brain mask: the template's, warped onto the head and trimmed by intensity."""

from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from vol3d.data.preparation.alignment import (
    as_affine,
    best_pose,
    centre_mm,
    descend,
    dilated,
    floats,
    pose,
    template_mask,
    template_volume,
)
from vol3d.data.preparation.bias import BiasField
from vol3d.data.preparation.masks.mask import BrainMask, Found, checked, solid
from vol3d.data.scan import Scan
from vol3d.volume import Grid, Volume

WORKING_MM = 2.0
"""The head is looked at with voxels of this size."""
BELOW_CROWN_MM = 85.0
"""The middle of the brain is about this far below the top of the head."""
HEAD_MM = 160.0
"""What is further below the top is neck."""
RIM_MM = 3.0
"""The metric looks at the template's brain and the dark rim of fluid and skull around it."""
MESH = (5, 7, 5)
"""Pieces of the B-spline along X, Y, Z: knots about 32 mm apart."""
REACH_MM = 4.0
"""How far the brain may reach beyond the warped template; sulci and shape differ by that."""


class Template(BrainMask):
    """Approximate, but needs no other tool and no trained weights."""

    kind: Literal["template"] = "template"

    def find(self, head: Volume, scan: Scan, folder: Path) -> Found:
        """Affine and B-spline registration of the template, then trimming by intensity."""
        small = on_working_grid(head)
        tissue = Volume(small.data > otsu(small), small.affine)
        small = Volume(small.data / BiasField().estimate(small, tissue), small.affine)
        warped = warped_template_mask(small, tissue)
        trimmed = trim(small, warped)
        share = Volume(trimmed.data.astype(np.float32), trimmed.affine).resample(head.grid)
        mask = Volume(share.data > 0.5, head.affine, head.space_code)
        return checked(Found(mask, "template registered and trimmed", True), scan.name)


def on_working_grid(head: Volume) -> Volume:
    """The head, smoothed where its voxels are smaller, on an upright grid of 2 mm around it."""
    image = floats(head)
    sigma = [0.5 * WORKING_MM if s < WORKING_MM else 0.0 for s in head.spacing]
    smooth = sitk.DiscreteGaussian(image, [s**2 for s in sigma], useImageSpacing=True)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in head.shape])).reshape(3, -1)
    world = (head.affine @ np.vstack([corners, np.ones(8)]))[:3]  # [3, 8] mm
    low, high = world.min(1), world.max(1)
    affine = np.diag([WORKING_MM] * 3 + [1.0])
    affine[:3, 3] = low
    shape = tuple(int(n) for n in np.ceil((high - low) / WORKING_MM) + 1)
    return Volume.from_sitk(smooth).resample(Grid(shape, affine))


def otsu(volume: Volume) -> float:
    """The intensity that parts air and bone from soft tissue (Otsu 1979)."""
    method = sitk.OtsuThresholdImageFilter()
    method.Execute(floats(volume))
    return method.GetThreshold()


def warped_template_mask(small: Volume, tissue: Volume) -> Volume:
    """The template's brain on the head's grid, after a rigid, an affine and a B-spline fit."""
    fixed, moving = template_volume(2.0).to_sitk(), floats(small)
    around = dilated(template_mask(2.0), RIM_MM)
    found = best_pose(fixed, moving, around, head_poses(tissue))
    found = descend(fixed, moving, around, as_affine(found), shrink=[4, 2])
    spline = sitk.BSplineTransformInitializer(fixed, list(MESH), 3)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(around)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.5, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsLBFGSB(numberOfIterations=30)
    method.SetShrinkFactorsPerLevel([2])
    method.SetSmoothingSigmasPerLevel([2.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetMovingInitialTransform(found)
    method.SetInitialTransform(spline, inPlace=True)
    method.Execute(fixed, moving)
    warp = sitk.CompositeTransform([found, spline])  # the last one is applied first
    field = sitk.TransformToDisplacementField(
        warp,
        sitk.sitkVectorFloat64,
        fixed.GetSize(),
        fixed.GetOrigin(),
        fixed.GetSpacing(),
        fixed.GetDirection(),
    )
    inverse = sitk.InvertDisplacementField(field)
    return Volume.from_sitk(field), inverse
