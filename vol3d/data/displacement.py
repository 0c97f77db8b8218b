"""The warps of the embedded cohort as files: small ones, whole numbers of a step in mm, RAS+."""

from pathlib import Path

import nibabel as nib
import numpy as np

from vol3d.errors import DataError
from vol3d.io.files import whole
from vol3d.transforms.field_file import DISPLACEMENT, vector_image
from vol3d.volume import Grid

STEP_MM = 0.002
"""Displacements are stored as whole numbers of this step."""


def write_displacement(path: Path, u: np.ndarray, grid: Grid) -> None:
    """Write u [3, X, Y, Z] in mm as a NIfTI image [X, Y, Z, 1, 3], whole or not at all.

    The vectors are in world mm, RAS+: the voxel at the place x goes with the point x + u(x). NIfTI's code
    1006 says so, and ITK turns them as it reads.
    """
    steps = np.rint(u / STEP_MM)
    if np.abs(steps).max() > 32767:
        raise DataError(
            f"{path}: a displacement of {np.abs(u).max():.0f} mm does not fit the file, "
            f"which holds up to {32767 * STEP_MM:.0f} mm"
        )
    image = vector_image(steps.astype(np.int16), grid, space_code=4)
    image.header.set_slope_inter(STEP_MM, 0)
    image.header.set_intent(DISPLACEMENT)
    with whole(path) as part:
        nib.save(image, part)
