"""A built-in brain mask: the template's, warped onto the head and trimmed by intensity."""

from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from vol3d.data.brain import solid
from vol3d.data.preparation.alignment import (
    as_affine,
    best_pose,
    descend,
    dilated,
    floats,
    move,
    pose,
    registration,
    template_mask,
    template_volume,
)
from vol3d.data.preparation.bias import BiasField
from vol3d.data.preparation.masks.base import BrainMask, Found, checked
from vol3d.data.visit import Visit
from vol3d.volume import Volume

BELOW_CROWN_MM = 85.0
"""The middle of the brain is about this far below the top of the head."""
NECK_MM = 160.0
"""What is further below the top of the head is neck."""
RIM_MM = 6.0
"""The metric looks at the template's brain and the dark rim of fluid and skull around it."""
HEAD_FIELD = BiasField(voxel_mm=6.0, iterations=[30, 30, 30])
"""A rough one, to even out the head before the brain is known."""
ROOM = 8
"""Voxels of 2 mm around the template's field of view, which ends close above its crown."""
MESH = (6, 8, 6)
"""Slabbed of the B-spline along X, Y, Z: knots about 32 mm apart."""
REACH_MM = 4.0
"""How far the brain may reach beyond the warped template; sulci and shape differ by that."""
DARK = 0.45
"""Fluid, bone and dura are darker than this share of the brain's median."""
BRIGHT = 1.25
"""Fat is brighter than this many times the brain's 99th percentile."""


class Template(BrainMask):
    """Approximate, but needs no other tool and no trained weights."""

    kind: Literal["template"] = "template"

    def find(self, head: Volume, scan: Visit, folder: Path) -> Found:
        """Affine and B-spline registration of the template, then trimming by intensity."""
        tissue = Volume(head.data > otsu(head), head.affine)
        flat = head.data / HEAD_FIELD.estimate(head, tissue)
        flat = np.minimum(flat, np.percentile(flat[tissue.data], 95))  # fat would rule the metric
        flat = Volume(flat, head.affine)
        affine = fit_affine(flat, tissue)
        field = template_mask(2.0).grid.padded(ROOM)  # the head, of the template's size
        upright = move(flat, affine, field)
        share = trim(upright, fit_spline(upright)).astype(np.float32)
        back = move(Volume(share, upright.affine), affine.GetInverse(), head.grid)
        mask = solid(Volume(back.data > 0.5, head.affine))
        return checked(Found(mask, "template registered, trimmed by intensity", True), scan.name)


def otsu(volume: Volume) -> float:
    """The intensity that parts air and bone from soft tissue (Otsu 1979)."""
    method = sitk.OtsuThresholdImageFilter()
    method.Execute(floats(volume))
    return method.GetThreshold()


def fit_affine(head: Volume, tissue: Volume) -> sitk.AffineTransform:
    """The affine map from the template's brain to the one in the head."""
    fixed, moving = template_volume(2.0).to_sitk(), floats(head)
    around = dilated(template_mask(2.0), RIM_MM)
    found = best_pose(fixed, moving, around, head_poses(tissue))
    return descend(fixed, moving, around, as_affine(found), shrink=[2])


def head_poses(tissue: Volume) -> list[sitk.Transform]:
    """Poses to try: the brain lies some way below the top of the head, which may nod and shift."""
    index = np.argwhere(solid(tissue).data)[::7]  # a seventh of the voxels says as much
    world = index @ tissue.affine[:3, :3].T + tissue.affine[:3, 3]  # [N, 3] mm
    crown = np.percentile(world[:, 2], 99.9)
    x, y, _ = world[world[:, 2] > crown - NECK_MM].mean(0)
    middle = np.array([x, y, crown - BELOW_CROWN_MM])
    angles = product(np.deg2rad([-25, -12, 0, 12, 25]), np.deg2rad([-12, 0, 12]), [0.0])
    shifts = product([0.0], [-15.0, 0.0, 15.0], [-15.0, 0.0, 15.0])  # mm
    return [pose(a, middle + s) for a, s in product(list(angles), map(np.array, shifts))]


def fit_spline(upright: Volume) -> Volume:
    """The template's brain, warped onto a head that was given the template's size."""
    fixed, moving = floats(upright), template_volume(2.0).to_sitk()
    spline = sitk.BSplineTransformInitializer(fixed, list(MESH), 3)
    method = registration(dilated(template_mask(2.0), RIM_MM), shrink=[2])
    method.SetOptimizerAsLBFGSB(numberOfIterations=20)
    method.SetInitialTransform(spline, inPlace=True)
    method.Execute(fixed, moving)
    return move(template_mask(2.0), spline, upright.grid, nearest=True)


def trim(upright: Volume, warped: Volume) -> np.ndarray:
    """Take away what is too dark or bright for brain, or hangs on by a thread; fill the sulci.

    Args:
        upright: the head on the template's grid.
        warped: about where the brain is.

    Returns:
        bool [X, Y, Z]
    """
    mask = sitk.GetImageFromArray((warped.data > 0).astype(np.uint8).transpose(2, 1, 0))
    depth = sitk.SignedMaurerDistanceMap(mask, insideIsPositive=True)  # voxels of 2 mm
    depth = 2 * sitk.GetArrayFromImage(depth).transpose(2, 1, 0)
    inside = upright.data[depth > 4]
    dark = DARK * np.median(inside)
    bright = BRIGHT * np.percentile(inside, 99)
    tissue = (depth > -REACH_MM) & (upright.data > dark) & (upright.data < bright)
    ball = ndimage.generate_binary_structure(3, 1)
    core = solid(Volume(ndimage.binary_erosion(tissue, ball), upright.affine)).data
    brain = ndimage.binary_dilation(core, ball) & tissue | (depth > 8)
    brain = ndimage.binary_closing(brain, ball, iterations=4) & (depth > -REACH_MM)
    return solid(Volume(brain, upright.affine)).data
