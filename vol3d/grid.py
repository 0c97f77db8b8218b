"""Where voxels lie: shape and affine. World coordinates are RAS+ in mm, whatever the file says."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from nibabel.orientations import (
    aff2axcodes,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from vol3d.errors import ConfigError, DataError
from vol3d.io.header import corners, is_sound
from vol3d.io.text import brief, kind_of

if TYPE_CHECKING:
    import SimpleITK as sitk

LPS = np.diag([-1.0, -1.0, 1.0])  # RAS+ <-> LPS+
PAIRS = {"L": "LR", "R": "LR", "P": "PA", "A": "PA", "I": "IS", "S": "IS"}
"""The sides that an axis may point to, and the pair that each is of."""


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
        object.__setattr__(self, "shape", shape_of(self.shape))
        object.__setattr__(self, "affine", affine_of(self.affine))

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
    def middle(self) -> str:
        """Where the grid's middle lies in the world, as messages say it."""
        place = (self.affine @ [*((np.array(self.shape) - 1) / 2), 1])[:3]
        return f"[{', '.join(f'{mm:.0f}' for mm in place)}] mm"

    @property
    def orientation(self) -> str:
        """Codes of the directions in which the axes point, such as RAS or LPI."""
        return "".join(aff2axcodes(self.affine))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml (1 ml = 1000 mm3)."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def volume_ml(self, mask: np.ndarray) -> float:
        """Volume in ml of the voxels of a mask [X, Y, Z] on this grid: those that are not 0.

        Raises:
            ConfigError: it is no array of this shape.
        """
        if not isinstance(mask, np.ndarray) or mask.shape != self.shape:
            raise ConfigError(f"mask: an array of shape {self.shape} is due, got {kind_of(mask)}")
        return np.count_nonzero(mask) * self.voxel_ml

    def matches(self, other: "Grid", tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids put every voxel in the same place."""
        if not isinstance(other, Grid):
            raise ConfigError(f"grid: volume.grid or a Grid is due, got {kind_of(other)}")
        return self.shape == other.shape and self.apart(other) <= tolerance_mm

    def apart(self, other: "Grid") -> float:
        """How far, in mm, a corner voxel lies at most from the same corner of another grid."""
        gaps = (self.affine @ corners(self.shape) - other.affine @ corners(other.shape))[:3]
        return float(np.linalg.norm(gaps, axis=0).max())

    def coarser(self, factor: int) -> "Grid":
        """The grid whose voxels are blocks of `factor`^3 of these; ceil(shape / factor) of them.

        Raises:
            ConfigError: no blocks have this size.
        """
        factor = whole_number("factor", factor, 1)
        scale = np.diag([factor, factor, factor, 1.0])
        scale[:3, 3] = (factor - 1) / 2  # the centre of a block is between its voxels
        return Grid(tuple(-(-n // factor) for n in self.shape), self.affine @ scale)

    def turned(self, codes: str) -> "Grid":
        """The same voxels with axes that point as the codes say, such as LAS."""
        turn = self.turn_to(codes)
        shape = tuple(int(self.shape[i]) for i in np.argsort(turn[:, 0]))
        return Grid(shape, self.affine @ inv_ornt_aff(turn, self.shape))

    def turn_to(self, codes: str) -> np.ndarray:
        """How nibabel turns axes that point as these do into those of the codes.

        Raises:
            ConfigError: the codes are not one of each pair of sides.
        """
        if sorted(PAIRS.get(c, "") for c in str(codes)) != sorted({*PAIRS.values()}):
            raise ConfigError(
                f"{brief(codes)}: no orientation; three letters are due, such as RAS: one of L and R, P "
                f"and A, I and S"
            )
        return ornt_transform(io_orientation(self.affine), axcodes2ornt(codes))

    def padded(self, voxels: int) -> "Grid":
        """So many voxels more on every side.

        Raises:
            ConfigError: there is no such number of voxels.
        """
        voxels = whole_number("voxels", voxels, 0)
        corner = np.eye(4)
        corner[:3, 3] = -voxels
        return Grid(tuple(n + 2 * voxels for n in self.shape), self.affine @ corner)

    def at(self, spacing: float | Sequence[float]) -> "Grid":
        """The same field of view in voxels of `spacing` mm (one, or X, Y, Z), from the same corner.

        Raises:
            ConfigError: no voxels have this size.
        """
        size = np.array(spacing)
        if size.dtype.kind not in "iuf" or size.shape not in ((), (3,)) or not (size > 0).all():
            raise ConfigError(f"spacing={brief(spacing)}: mm above 0 are due, one number or three")
        scale = size / self.spacing
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


def whole_number(name: str, given: int, least: int) -> int:
    """A number of voxels; a ConfigError if it is none, or fewer than `least`."""
    is_whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
    if not is_whole or given < least:
        raise ConfigError(f"{name}={brief(given)}: a whole number is due, {least} or more")
    return int(given)


def shape_of(given: Sequence[int]) -> tuple[int, int, int]:
    """Voxels along X, Y, Z; a DataError if they are not."""
    try:
        shape = tuple(operator.index(n) for n in given)
    except TypeError:
        shape = ()
    if len(shape) != 3 or min(shape) < 1:
        raise DataError(
            f"shape={brief(given)}: three whole numbers of voxels are due, each 1 or more"
        )
    return shape


def affine_of(given: np.ndarray) -> np.ndarray:
    """[4, 4] float64 that gives voxels a size and a place; a DataError if it does not."""
    try:
        affine = np.array(given, np.float64)
    except (TypeError, ValueError):  # letters, or rows of several lengths
        affine = np.empty(0)
    if affine.shape != (4, 4):
        raise DataError(f"affine: 4 x 4 numbers are due, voxel to mm (RAS+), got {kind_of(given)}")
    if not is_sound(affine) or not np.allclose(affine[3], [0, 0, 0, 1]):
        raise DataError(f"affine: gives voxels no size or no place: {affine.tolist()}")
    return affine


# -- SimpleITK -------------------------------------------------------------------------------------


def grid_of(image: "sitk.Image") -> Grid:
    """Where the voxels of a SimpleITK image lie; a ConfigError if it is none, or has not three axes."""
    import SimpleITK as sitk

    if not isinstance(image, sitk.Image):
        raise ConfigError(f"image: one of SimpleITK is due, got {kind_of(image)}")
    if image.GetDimension() != 3:
        raise ConfigError(f"image: three axes are due, it has {image.GetDimension()}")
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


def check_met(grid: Grid, volume: Grid, transform: "sitk.Transform | None" = None) -> None:
    """Refuse, by a DataError, a grid of which no voxel lies in a volume: all would be 0 there.

    Args:
        grid: where values are wanted.
        volume: where the volume's voxels lie.
        transform: from points of the grid to points of the volume, mm, LPS+.
    """
    import SimpleITK as sitk

    inside = placed(sitk.Image(list(volume.shape), sitk.sitkUInt8) + 1, volume)
    how = sitk.sitkNearestNeighbor
    met = sitk.Resample(inside, empty_sitk(grid), transform or sitk.Transform(), how, 0.0)
    if sitk.GetArrayViewFromImage(met).any():
        return
    way = " after the transform" if transform else ""
    raise DataError(
        f"no voxel of the grid ({grid}, around {grid.middle}) lies in the volume ({volume}, around "
        f"{volume.middle}){way}; are both where their headers say, or is another transform due?"
    )
