"""Displacement fields as files: vectors in mm, RAS+, one per voxel, with NIfTI's vector intent."""

from pathlib import Path

import nibabel as nib
import numpy as np

from vol3d.errors import DataError
from vol3d.io.files import whole
from vol3d.volume import Grid

STEP_MM = 0.002
"""Displacements are stored as whole numbers of this step."""


def write_displacement(path: Path, displacement: np.ndarray, grid: Grid) -> None:
    """Write u [3, X, Y, Z] in mm as a NIfTI image [X, Y, Z, 1, 3], whole or not at all.

    The vectors are in world mm, RAS+: the voxel at the place x goes with the point x + u(x).
    """
    data = np.rint(displacement.transpose(1, 2, 3, 0)[:, :, :, None] / STEP_MM)  # [X, Y, Z, 1, 3]
    if np.abs(data).max() > 32767:
        raise DataError(
            f"{path}: a displacement of {np.abs(displacement).max():.0f} mm does not fit the file, "
            f"which holds up to {32767 * STEP_MM:.0f} mm"
        )
    image = nib.Nifti1Image(data.astype(np.int16), grid.affine)
    image.header.set_slope_inter(STEP_MM, 0)
    image.header.set_intent("vector", name="displacement RAS mm")
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(grid.affine, 4)
    image.set_qform(grid.affine, 4)
    with whole(path) as part:
        nib.save(image, part)


def read_displacement(path: Path) -> tuple[np.ndarray, Grid]:
    """Read u [3, X, Y, Z] in mm, RAS+, and the grid it lies on.

    Raises:
        DataError: it is no NIfTI image of shape [X, Y, Z, 1, 3] with the vector intent.
    """
    try:
        image = nib.load(path)
        data = image.get_fdata(dtype=np.float32)
    except Exception as error:  # nibabel, zlib and the OS each raise their own
        raise DataError(f"{path}: cannot be read as an image ({type(error).__name__})") from None
    if data.ndim != 5 or data.shape[3:] != (1, 3) or image.header.get_intent()[0] != "vector":
        raise DataError(
            f"{path}: is no displacement field: shape {data.shape}, "
            f"intent '{image.header.get_intent()[0]}'; [X, Y, Z, 1, 3] and 'vector' are due"
        )
    return data[:, :, :, 0].transpose(3, 0, 1, 2), Grid(data.shape[:3], image.affine)
