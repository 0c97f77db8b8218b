"""A volume: voxels tied to the affine that says where each of them lies in the body, in mm.

World coordinates are RAS+ (right, anterior, superior), as in NIfTI, FreeSurfer and nibabel.
ITK's are LPS+; the functions of `sitk` here and in `transforms` are the only place that knows.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from nibabel.orientations import (
    aff2axcodes,
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from vol3d.io.files import whole
from vol3d.io.header import Form, Header, corners, place, read_header

if TYPE_CHECKING:
    import SimpleITK as sitk

log = logging.getLogger(__name__)
LPS = np.diag([-1.0, -1.0, 1.0])  # RAS+ <-> LPS+


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels lie, without their values.

    Attributes:
        shape: voxels along X, Y, Z.
        affine: [4, 4] float64, voxel index -> world mm, RAS+.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        affine = np.array(self.affine, np.float64)
        if affine.shape != (4, 4):
            raise ValueError(f"an affine is 4 x 4, got {affine.shape}")
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "affine", affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along X, Y, Z."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def origin(self) -> np.ndarray:
        """World position, mm, of the centre of voxel (0, 0, 0)."""
        return self.affine[:3, 3].copy()

    @property
    def direction(self) -> np.ndarray:
        """[3, 3] unit vectors of the axes, as columns."""
        return self.affine[:3, :3] / np.array(self.spacing)

    @property
    def orientation(self) -> str:
        """Codes of the directions in which the axes point, such as RAS or LPI."""
        return "".join(aff2axcodes(self.affine))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml (1 ml = 1000 mm3)."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def matches(self, other: "Grid", tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids put every voxel in the same place."""
        return self.shape == other.shape and self.apart(other) <= tolerance_mm

    def apart(self, other: "Grid") -> float:
        """How far, in mm, a corner voxel lies at most from the same corner of another grid."""
        gaps = (self.affine @ corners(self.shape) - other.affine @ corners(other.shape))[:3]
        return float(np.linalg.norm(gaps, axis=0).max())

    def coarser(self, factor: int) -> "Grid":
        """The grid whose voxels are blocks of `factor`^3 of these; ceil(shape / factor) of them."""
        scale = np.diag([factor, factor, factor, 1.0])
        scale[:3, 3] = (factor - 1) / 2  # the centre of a block is between its voxels
        return Grid(tuple(-(-n // factor) for n in self.shape), self.affine @ scale)

    def turned(self, codes: str) -> "Grid":
        """The same voxels with axes that point as the codes say, such as LAS."""
        turn = ornt_transform(io_orientation(self.affine), axcodes2ornt(codes))
        shape = tuple(int(self.shape[i]) for i in np.argsort(turn[:, 0]))
        return Grid(shape, self.affine @ inv_ornt_aff(turn, self.shape))

    def padded(self, voxels: int) -> "Grid":
        """So many voxels more on every side."""
        corner = np.eye(4)
        corner[:3, 3] = -voxels
        return Grid(tuple(n + 2 * voxels for n in self.shape), self.affine @ corner)

    def at(self, spacing: float | Sequence[float]) -> "Grid":
        """The same field of view in voxels of `spacing` mm (one, or X, Y, Z), from the same corner."""
        scale = np.array(spacing) / self.spacing
        to_ours = np.diag([*scale, 1.0])
        to_ours[:3, 3] = (scale - 1) / 2  # the first voxels share their outer corner
        shape = tuple(max(1, round(n / s)) for n, s in zip(self.shape, scale, strict=True))
        return Grid(shape, self.affine @ to_ours)

    def blur(self, coarser: "Grid", transform: "sitk.Transform") -> np.ndarray:
        """What to smooth before resampling: variance in mm^2 along each axis; 0 where none is due.

        A voxel is taken to see a Gaussian whose full width at half maximum is its size; the blur is
        what this grid's Gaussian lacks of the other's (Cardoso et al. 2015).

        Args:
            coarser: the grid to resample to.
            transform: from points of that grid to points of this one, mm, LPS+; linear.
        """
        edges = (LPS @ coarser.affine[:3, :3]).T.tolist()  # of a voxel, as vectors
        edges = np.array(
            [transform.TransformVector(e, (LPS @ coarser.origin).tolist()) for e in edges]
        )
        along = edges @ LPS @ self.direction  # this grid's axes
        lacks = (along**2).sum(0) - np.square(self.spacing)
        lacks[lacks < 1e-3 * np.square(self.spacing)] = 0.0
        return lacks / (8 * np.log(2))  # FWHM^2 = 8 ln 2 variance

    def __str__(self) -> str:
        size = "x".join(str(n) for n in self.shape)
        spacing = "x".join(f"{s:.4g}" for s in self.spacing)
        return f"{size} voxels of {spacing} mm, {self.orientation}"


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels [X, Y, Z] and the grid they lie on.

    Attributes:
        data: [X, Y, Z] values, in the order of the file.
        affine: [4, 4] float64, voxel index -> world mm, RAS+.
        space_code: NIfTI's name of the world: 1 scanner, 2 aligned, 3 Talairach, 4 MNI152.
    """

    data: np.ndarray
    affine: np.ndarray
    space_code: int = 2

    def __post_init__(self) -> None:
        if self.data.ndim != 3:
            raise ValueError(f"a volume is [X, Y, Z], got shape {self.data.shape}")
        object.__setattr__(self, "affine", Grid(self.data.shape, self.affine).affine)

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(self.data.shape, self.affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along X, Y, Z."""
        return self.grid.shape

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along X, Y, Z."""
        return self.grid.spacing

    @property
    def orientation(self) -> str:
        """Codes of the directions in which the axes point, such as RAS or LPI."""
        return self.grid.orientation

    # -- files ------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: Path | str, form: Form | None = None) -> "Volume":
        """Read a 3-D NIfTI image (or another format that nibabel knows), whole and checked.

        Args:
            path: the file.
            form: which placement holds where sform and qform disagree.

        Raises:
            DataError: no such file; truncated or not an image; not 3-D; NaN or infinite voxels; no
                sform and no qform, or two that disagree, so that left and right would be a guess.
        """
        header = read_header(Path(path), form)
        if header.doubt:
            log.warning("warning: %s: %s", path, header.doubt)
        return cls.of(header)

    @classmethod
    def of(cls, header: Header) -> "Volume":
        """The volume whose header was read, with which all doubts were told."""
        return cls(header.voxels(), header.affine, header.space_code)

    def write(
        self,
        path: Path | str,
        *,
        slope: float | None = None,
        codes: tuple[int, int] | None = None,
    ) -> None:
        """Write as NIfTI, whole or not at all; sform and qform both say where the voxels are.

        Args:
            path: ends in .nii or .nii.gz.
            slope: store as int16 steps of this size (the header carries it, readers undo it).
                Without it the data type is kept, and booleans become uint8.
            codes: of sform and qform, 0 for one that is not to hold; None: both are the space code.
        """
        path = Path(path)
        data = self.data
        if data.dtype == bool:
            data = data.astype(np.uint8)
        elif data.dtype in (np.int64, np.float16):
            data = data.astype(np.int32 if data.dtype == np.int64 else np.float32)
        if slope is not None:
            data = np.clip(np.rint(data / slope), -32768, 32767).astype(np.int16)
        header = nib.Nifti1Header()
        header.set_data_dtype(data.dtype)
        place(header, self.affine, codes or (self.space_code, self.space_code))
        image = nib.Nifti1Image(data, None, header)  # None: the header alone says where voxels lie
        if slope is not None:
            image.header.set_slope_inter(slope, 0)
        with whole(path) as part:
            nib.save(image, part)

    # -- geometry ---------------------------------------------------------------------------------

    def reorient(self, codes: str = "RAS") -> "Volume":
        """Turn and flip the axes so that they point as the codes say; no voxel changes its value."""
        turn = ornt_transform(io_orientation(self.affine), axcodes2ornt(codes))
        data = np.ascontiguousarray(apply_orientation(self.data, turn))
        return Volume(data, self.grid.turned(codes).affine, self.space_code)

    def resample(
        self,
        grid: Grid,
        transform: "sitk.Transform | None" = None,
        *,
        nearest: bool = False,
        keep_zeros: bool = True,
    ) -> "Volume":
        """The values on another grid: linear, or nearest neighbour for labels; 0 outside.

        Where the grid's voxels are larger, values are smoothed first, so that each voxel stands for
        all the tissue in it and nothing aliases (Cardoso et al. 2015, MICCAI, LNCS 9350:674-681).
        What is 0 without it stays 0, so that a stripped brain does not spread into the air around it.

        Args:
            grid: where values are wanted.
            transform: from points of the grid to points of the volume, mm, LPS+; linear.
            nearest: values are labels, which must not be mixed.
            keep_zeros: false for what is no stripped brain, such as probabilities.
        """
        import SimpleITK as sitk  # here, and below: it takes a second to load

        transform = transform or sitk.Transform()
        how = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
        data = self.data if nearest else self.data.astype(np.float32)
        image = Volume(data, self.affine).to_sitk()

        def moved(image: "sitk.Image") -> np.ndarray:
            out = sitk.Resample(image, empty_sitk(grid), transform, how, 0.0)
            return sitk.GetArrayFromImage(out).transpose(2, 1, 0)

        values = moved(image)
        if not nearest and (variance := self.grid.blur(grid, transform)).any():
            smooth = sitk.DiscreteGaussian(image, variance.tolist(), 32, 1e-3)
            values = np.where((values == 0) & keep_zeros, values, moved(smooth))
        return Volume(values, grid.affine, self.space_code)

    def to_sitk(self) -> "sitk.Image":
        """As a SimpleITK image (LPS+, axes in reverse order in memory)."""
        import SimpleITK as sitk

        data = self.data.astype(np.uint8) if self.data.dtype == bool else self.data
        data = data.astype(data.dtype.newbyteorder("="))  # ITK knows the machine's byte order alone
        image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
        return placed(image, self.grid)

    @classmethod
    def from_sitk(cls, image: "sitk.Image", space_code: int = 2) -> "Volume":
        """From a SimpleITK image."""
        import SimpleITK as sitk

        data = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
        return cls(data, grid_of(image).affine, space_code)


def write_series(path: Path, frames: Sequence[Volume], space_code: int) -> None:
    """Write volumes on one grid as a 4-D NIfTI image, one after the other; whole or not at all."""
    data = np.stack([frame.data for frame in frames], axis=-1)
    header = nib.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    place(header, frames[0].affine, (space_code, space_code))
    with whole(path) as part:
        nib.save(nib.Nifti1Image(data, None, header), part)


def grid_of(image: "sitk.Image") -> Grid:
    """Where the voxels of a SimpleITK image lie."""
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = LPS @ direction * np.array(image.GetSpacing())
    affine[:3, 3] = LPS @ np.array(image.GetOrigin())
    return Grid(image.GetSize(), affine)


def placed(image: "sitk.Image", grid: Grid) -> "sitk.Image":
    """The SimpleITK image, put where the grid is."""
    image.SetSpacing(grid.spacing)
    image.SetOrigin((LPS @ grid.origin).tolist())
    image.SetDirection((LPS @ grid.direction).ravel().tolist())
    return image


def empty_sitk(grid: Grid) -> "sitk.Image":
    """A SimpleITK image without content, on the grid."""
    import SimpleITK as sitk

    return placed(sitk.Image(list(grid.shape), sitk.sitkUInt8), grid)


def mni_grid(spacing: float) -> Grid:
    """The field of view of 160 x 224 x 160 mm around the MNI152 brain, RAS+.

    At 1 mm 160 x 224 x 160 voxels, at 2 mm 80 x 112 x 80, at 4 mm 40 x 56 x 40.
    """
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = (
        np.array([-80.0, -130.0, -73.0]) + spacing / 2
    )  # the box's corner, then half a voxel
    return Grid(tuple(round(n / spacing) for n in (160, 224, 160)), affine)
