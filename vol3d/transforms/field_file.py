"""Displacement fields as files: NIfTI images [X, Y, Z, 1, 3] of vectors in mm, as ITK writes them.

NIfTI's codes say whose axes the vectors follow: 1007 (vector) is ITK's own LPS+, 1006 (displacement) is
RAS+, which ITK turns as it reads: the embedded cohort's warps.
"""

from pathlib import Path

import nibabel as nib
import numpy as np

from vol3d.errors import DataError
from vol3d.grid import LPS, Grid
from vol3d.io.files import whole
from vol3d.io.header import array_of, check_size, placement, unreadable

DISPLACEMENT, VECTOR = 1006, 1007


def write_field(path: Path, u: np.ndarray, grid: Grid) -> None:
    """Write u [3, X, Y, Z] in mm, RAS+, as ITK and ANTs read it: LPS+, float32; whole or not at all."""
    image = vector_image(np.einsum("ij,j...->i...", LPS, u).astype(np.float32), grid)
    with whole(path) as part:
        nib.save(image, part)


def vector_image(vectors: np.ndarray, grid: Grid, space_code: int = 2) -> nib.Nifti1Image:
    """Vectors [3, X, Y, Z] as a NIfTI image that says it holds vectors."""
    image = nib.Nifti1Image(vectors.transpose(1, 2, 3, 0)[:, :, :, None], grid.affine)
    image.header.set_intent("vector")
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(grid.affine, space_code)
    image.set_qform(grid.affine, space_code)
    return image


def read_field(path: Path) -> tuple[np.ndarray, Grid]:
    """Read u [3, X, Y, Z] in mm, RAS+, and the grid it lies on.

    Raises:
        DataError: no such file; no NIfTI image of shape [X, Y, Z, 1, 3] that says it holds vectors; NaN
            or infinite; voxels are placed nowhere, or by sform and qform on other sides.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such transform")
    try:
        image = nib.load(path)
        code = int(image.header["intent_code"])
    except Exception as error:  # nibabel, zlib and the OS each raise their own
        raise unreadable(path, error) from None
    if len(image.shape) != 5 or image.shape[3:] != (1, 3) or code not in (DISPLACEMENT, VECTOR):
        raise DataError(
            f"{path}: is no displacement field of ITK or ANTs: shape {image.shape}, intent code {code}; "
            f"[X, Y, Z, 1, 3] and 1007 (or 1006) are due; fields of other programs are to be converted"
        )
    check_size(path, image)
    affine, _, _ = placement(path, image, image.shape[:3], None)
    try:
        vectors = array_of(image, np.float32)[:, :, :, 0].transpose(3, 0, 1, 2)
    except Exception as error:
        raise unreadable(path, error) from None
    if bad := int((~np.isfinite(vectors)).any(0).sum()):
        raise DataError(f"{path}: {bad} of its vectors are NaN or infinite; make the field anew")
    u = (
        vectors
        if code == DISPLACEMENT
        else np.einsum("ij,j...->i...", LPS.astype(np.float32), vectors)
    )
    return np.ascontiguousarray(u), Grid(image.shape[:3], affine)
