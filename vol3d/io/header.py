"""What an image file says of itself, checked before memory is asked for its voxels.

A NIfTI header places voxels twice, by a matrix (sform) and by a rotation (qform). FSL and nibabel take
the sform, ITK and ANTs often the qform: where the two name other sides, left and right depend on who
reads them.
"""

import zlib
from copy import copy
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.openers import ImageOpener
from nibabel.orientations import aff2axcodes
from nibabel.spatialimages import SpatialImage

from vol3d.errors import DataError
from vol3d.io.reading import first_line

Form = Literal["sform", "qform"]
PACKED = (".gz", ".mgz", ".bz2", ".zst")
UNITS = {1: "metres", 3: "micrometres"}
"""NIfTI's codes of lengths that are not mm; 0, unknown, is taken for mm."""
TURNED = 0.7071
"""Cosine of the angle, 45 degrees, from which an axis points elsewhere."""
CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Header:
    """An image on disk, of which only the header was read.

    Attributes:
        shape: voxels along X, Y, Z.
        affine: [4, 4] float64, voxel index -> world mm, RAS+.
        space_code: NIfTI's name of the world, see `Volume`.
        doubt: what to tell whoever relies on the affine; None where nothing is in doubt.
    """

    path: Path
    image: SpatialImage
    shape: tuple[int, int, int]
    affine: np.ndarray
    space_code: int
    doubt: str | None = None

    def voxels(self) -> np.ndarray:
        """[X, Y, Z] values.

        Raises:
            DataError: the file is damaged; or a voxel is NaN or infinite.
        """
        try:
            data = array_of(self.image).reshape(self.shape)
        except MemoryError as error:
            raise DataError(f"{self.path}: this machine has no room for it ({error})") from None
        except Exception as error:  # nibabel, zlib and the OS each raise their own
            raise unreadable(self.path, error) from None
        if not np.isfinite(data).all():
            bad = int(data.size - np.isfinite(data).sum())
            raise DataError(
                f"{self.path}: {bad} voxels are NaN or infinite; mend them, for example with "
                f"fslmaths -nan"
            )
        return data.astype(np.float64) if data.dtype.itemsize > 8 else data


def read_header(path: Path, form: Form | None = None) -> Header:
    """Open an image, and check all that can be without its voxels.

    Args:
        path: a 3-D NIfTI image, or another format that nibabel knows.
        form: which placement holds where sform and qform disagree; without it that is an error.

    Raises:
        DataError: no such file, not an image, not 3-D, colours or complex numbers, fewer bytes than
            the header claims; voxels are placed nowhere, or by sform and qform on other sides.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such image")
    image = opened(path)
    if not isinstance(image, SpatialImage):
        raise DataError(f"{path}: holds no voxels ({type(image).__name__}); a 3-D image is due")
    check_values(path, image.get_data_dtype())
    shape = checked_shape(path, image.shape)
    check_size(path, image)
    affine, code, doubt = placement(path, image, shape, form)
    return Header(path, image, shape, affine, code, doubt)


def opened(path: Path) -> nib.filebasedimages.FileBasedImage:
    """Whatever nibabel makes of a file, its voxels not read yet; a DataError where that is nothing."""
    try:
        return nib.load(path)
    except Exception as error:  # nibabel, zlib and the OS each raise their own
        raise unreadable(path, error) from None


def array_of(image: SpatialImage, dtype: type | None = None) -> np.ndarray:
    """All values of an image; a packed file is read to its end, where the sum is that tells of damage."""
    voxels, file = image.dataobj, image.file_map["image"].filename
    is_packed = file is not None and Path(file).suffix.lower() in PACKED
    if not is_packed or not isinstance(voxels, ArrayProxy):
        return np.asanyarray(voxels, dtype)
    with ImageOpener(file) as content:
        proxy = copy(voxels)  # nibabel's own copy() knows no AFNI
        proxy.file_like = content.fobj  # else nibabel opens and closes a file of its own
        data = np.asanyarray(proxy, dtype)
        while content.read(CHUNK):
            pass
    return data


def unreadable(path: Path, error: Exception) -> DataError:
    """That a file cannot be read, with the reason."""
    reason = first_line(error) if str(error) else "truncated"
    return DataError(
        f"{path}: cannot be read as an image ({type(error).__name__}: {reason}); copy it again"
    )


def check_values(path: Path, dtype: np.dtype) -> None:
    """One real number a voxel is due."""
    if dtype.fields:
        raise DataError(
            f"{path}: is a colour image ({', '.join(dtype.fields)}); export the scan itself in grey "
            f"values, or take one channel, for example with c3d -mcs"
        )
    if dtype.kind == "c":
        raise DataError(
            f"{path}: holds complex numbers; give their magnitude, for example with "
            f"fslcomplex -realabs"
        )


def checked_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Voxels along X, Y, Z; further axes are one long."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    size = "x".join(map(str, shape))
    if len(shape) != 3:
        raise DataError(
            f"{path}: is {len(shape)}-D with shape {size}, a 3-D image is due; take one volume of it, "
            f"for example with fslroi"
        )
    if min(shape) < 1:
        raise DataError(
            f"{path}: its header claims {size} voxels; copy it again, or mend the header"
        )
    return tuple(int(n) for n in shape)


def check_size(path: Path, image: SpatialImage) -> None:
    """The file holds as many bytes as the header claims."""
    voxels = image.dataobj
    if not isinstance(voxels, ArrayProxy):  # a format of blocks, such as MINC's
        return
    claimed = prod(map(int, voxels.shape)) * voxels.dtype.itemsize
    held = holds(Path(image.file_map["image"].filename), voxels.offset + claimed) - voxels.offset
    if held < claimed:
        size = "x".join(map(str, voxels.shape))
        raise DataError(
            f"{path}: cannot be read as an image: its header claims {size} voxels of "
            f"{voxels.dtype.itemsize} bytes, {claimed:,} in all, and the file holds "
            f"{max(held, 0):,}; copy it again"
        )


def holds(file: Path, due: int) -> int:
    """How many bytes a file holds, unpacked; where it is packed, counted up to what is due."""
    if file.suffix not in PACKED:
        return file.stat().st_size
    with file.open("rb") as packed:
        packed.seek(max(file.stat().st_size - 4, 0))
        if file.suffix != ".bz2" and int.from_bytes(packed.read(4), "little") >= due:
            return due  # gzip ends in its size, modulo 2^32
    held = 0
    try:
        with ImageOpener(file) as content:
            while held < due and (chunk := content.read(min(CHUNK, due - held))):
                held += len(chunk)
    except (OSError, EOFError, zlib.error):  # cut off: what came until then
        pass
    return held


def placement(
    path: Path, image: SpatialImage, shape: tuple[int, int, int], form: Form | None
) -> tuple[np.ndarray, int, str | None]:
    """The affine, the code of its world, and what is in doubt about it."""
    if not isinstance(image, nib.Nifti1Pair):
        affine = np.array(image.affine, np.float64)
        if not is_sound(affine):
            raise DataError(
                f"{path}: its header gives voxels no size or no place; convert it to NIfTI"
            )
        return affine, 2, None
    coded = {f: int(image.header[f"{f}_code"]) for f in ("sform", "qform")}
    there = [f for f, code in coded.items() if code]
    if not there:
        raise DataError(
            f"{path}: has no sform and no qform, so left and right are unknown; "
            f"set one, for example with fslorient"
        )
    if (unit := int(image.header["xyzt_units"]) & 7) in UNITS:
        raise DataError(
            f"{path}: its header says that lengths are in {UNITS[unit]}, mm are due; export it again, or "
            f"mend the header, for example with nifti_tool -mod_field xyzt_units 2"
        )
    used = form if form in there else there[0]
    affine = affine_of(image, used)
    if affine is None:
        raise DataError(
            f"{path}: its {used} gives voxels no size or no place; mend it, for example with fslorient"
        )
    doubt = None if form or len(there) == 1 else disagreement(path, image, shape)
    return affine, coded[used], doubt


def affine_of(image: SpatialImage, form: Form) -> np.ndarray | None:
    """[4, 4] float64 as one of the two placements says; None where it makes no sense."""
    try:
        affine = np.array(getattr(image, f"get_{form}")(), np.float64)
    except (ValueError, nib.spatialimages.HeaderDataError):  # numbers that are no rotation
        return None
    return affine if is_sound(affine) else None


def is_sound(affine: np.ndarray) -> bool:
    """Whether it gives voxels a size and a place."""
    return bool(np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9)


def disagreement(path: Path, image: SpatialImage, shape: tuple[int, int, int]) -> str | None:
    """What is in doubt where sform and qform lie more than a voxel apart."""
    s, q = affine_of(image, "sform"), affine_of(image, "qform")
    if q is None:
        return "the qform makes no sense, and the sform is used"
    sizes = [np.linalg.norm(a[:3, :3], axis=0) for a in (s, q)]
    cosines = (s[:3, :3] / sizes[0] * (q[:3, :3] / sizes[1])).sum(0)
    if cosines.min() < TURNED:
        codes = ["".join(aff2axcodes(a)) for a in (s, q)]
        raise DataError(
            f"{path}: its sform says that the axes point to {codes[0]}, its qform to {codes[1]}, so "
            f"left and right depend on who reads it; find out which is right (look at both in a "
            f"viewer), and copy it over the other with fslorient -copysform2qform or "
            f"-copyqform2sform, or choose with data.form=sform or qform (form= for prepare, restore, "
            f"transform)"
        )
    apart = float(np.linalg.norm((s - q)[:3] @ corners(shape), axis=0).max())
    if apart <= sizes[0].max():
        return None
    return (
        f"sform and qform lie up to {apart:.1f} mm apart, and the sform is used; "
        f"data.form=qform takes the other (form= for prepare, restore, transform)"
    )


def codes_of(header: Header) -> tuple[int, int]:
    """The codes of sform and qform, 0 for one that does not hold; those of NIfTI, of another format."""
    if not isinstance(header.image, nib.Nifti1Pair):
        return header.space_code, header.space_code
    return int(header.image.header["sform_code"]), int(header.image.header["qform_code"])


def place(header: nib.Nifti1Header, affine: np.ndarray, codes: tuple[int, int]) -> None:
    """Say where voxels lie, in mm, by sform and qform of these codes; one of code 0 does not hold."""
    sform, qform = codes
    header.set_xyzt_units("mm")
    header.set_sform(affine, sform)
    header.set_qform(affine, qform)
    fits = np.allclose(header.get_qform(), affine, atol=1e-3)  # shears fit no qform
    if not fits:
        header["qform_code"] = 0
        header["sform_code"] = sform or qform


def corners(shape: tuple[int, int, int]) -> np.ndarray:
    """[4, 8] homogeneous indices of the corner voxels."""
    return np.array([*product(*[(0, n - 1) for n in shape], [1])]).T
