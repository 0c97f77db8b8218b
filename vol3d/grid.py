"""Where voxels lie: shape and affine. World coordinates are RAS+ in mm, whatever the file says."""

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

from vol3d.io.header import corners

if TYPE_CHECKING:
    import SimpleITK as sitk

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
