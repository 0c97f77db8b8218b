"""A volume: voxels tied to the affine that says where each of them lies in the body, in mm.

World coordinates are RAS+ (right, anterior, superior), as in NIfTI, FreeSurfer and nibabel.
ITK's are LPS+; the functions of `sitk` here and in `transforms` are the only place that knows.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation

from vol3d.errors import ConfigError, DataError, RunError
from vol3d.grid import Grid, check_met, empty_sitk, grid_of, placed
from vol3d.io.files import checked_image_name, whole
from vol3d.io.header import Form, Header, place, read_header
from vol3d.io.text import brief, kind_of
from vol3d.planes import Shown, figure_of, png_of, put_up

if TYPE_CHECKING:
    import SimpleITK as sitk
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
STORED = {"bool": "uint8", "int64": "int32", "float16": "float32", "float128": "float64"}
"""Types that NIfTI's readers do not know, and what stands for them in a file."""
CODES = range(6)
"""NIfTI's names of the world."""


@dataclass(frozen=True, eq=False, repr=False)
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
        is_array = isinstance(self.data, np.ndarray) and self.data.ndim == 3
        if not is_array or self.data.dtype.kind not in "biuf":
            raise DataError(
                f"data: an array [X, Y, Z] of real numbers is due, got {kind_of(self.data)}"
                + (f" and type {self.data.dtype}" if is_array else "")
            )
        if not isinstance(self.space_code, int | np.integer) or self.space_code not in CODES:
            raise DataError(
                f"space_code={brief(self.space_code)}: unknown. Known: 0 to {max(CODES)}."
            )
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

    def __repr__(self) -> str:
        low, high = (self.data.min(), self.data.max()) if self.data.size else (0, 0)
        return f"{type(self).__name__} {self.grid}; {self.data.dtype} {low:.4g} to {high:.4g}"

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

    def header(self, name: str) -> Header:
        """As an image in memory, which messages call `name`."""
        image = nib.Nifti1Image(np.asarray(self.data, self.stored), None)
        place(image.header, self.affine, (self.space_code, self.space_code))
        return Header(Path(name), image, self.shape, self.affine, self.space_code)

    @property
    def stored(self) -> np.dtype:
        """The type in which NIfTI keeps its values."""
        return np.dtype(STORED.get(self.data.dtype.name, self.data.dtype))

    def write(
        self,
        path: Path | str,
        *,
        slope: float | None = None,
        codes: Sequence[int] | None = None,
    ) -> None:
        """Write as NIfTI, whole or not at all; sform and qform both say where the voxels are.

        Args:
            path: ends in .nii or .nii.gz.
            slope: store as int16 steps of this size (the header carries it, readers undo it).
                Without it the data type is kept, and booleans become uint8.
            codes: of sform and qform, 0 for one that is not to hold; None: both are the space code.

        Raises:
            ConfigError: the path is not of a NIfTI file, or there are no such steps or codes.
            RunError: no such folder, no permission, or the disk is full.
        """
        path = checked_image_name(path)
        if slope is not None:
            if not (isinstance(slope, Real) and 0 < slope < math.inf):
                raise ConfigError(f"slope={brief(slope)}: the size of a step is due, above 0")
            slope = float(slope)  # of NumPy's there are several
        if codes is not None:
            codes = tuple(np.asarray(codes, object).ravel().tolist())  # a list and an array also do
        if codes not in (None, *product(CODES, CODES)):
            raise ConfigError(f"codes={brief(codes)}: two of 0 to {max(CODES)} are due")
        data = self.data.astype(self.stored)
        if slope is not None:
            data = np.clip(np.rint(data / slope), -32768, 32767).astype(np.int16)
        header = nib.Nifti1Header()
        header.set_data_dtype(data.dtype)
        place(header, self.affine, codes or (self.space_code, self.space_code))
        image = nib.Nifti1Image(data, None, header)  # None: the header alone says where voxels lie
        if slope is not None:
            image.header.set_slope_inter(slope, 0)
        try:
            with whole(path) as part:
                nib.save(image, part)
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error.strerror})") from None

    # -- pictures ---------------------------------------------------------------------------------

    def figure(
        self,
        title: str = "",
        *,
        at: Sequence[float] | None = None,
        outline: "Volume | None" = None,
    ) -> "Figure":
        """Three planes along the volume's own axes, turned to RAS, as a matplotlib figure.

        Args:
            title: what it is.
            at: the point, mm, RAS+, through which the planes go; None: the middle of what is above 0.
            outline: a mask or labels on the same grid, whose edge is drawn over it.

        Raises:
            ConfigError: the point or the outline lies elsewhere.
        """
        return together({str(title): self}, at=at, outline=outline)

    def show(
        self,
        title: str = "",
        *,
        at: Sequence[float] | None = None,
        outline: "Volume | None" = None,
    ) -> None:
        """Show `figure` beneath the cell of a notebook, or in a window."""
        put_up(self.figure(title, at=at, outline=outline))

    def _repr_png_(self) -> bytes:
        """What a notebook shows of it."""
        return png_of(self.figure())

    # -- geometry ---------------------------------------------------------------------------------

    def reorient(self, codes: str = "RAS") -> "Volume":
        """Turn and flip the axes so that they point as the codes say; no voxel changes its value."""
        data = np.ascontiguousarray(apply_orientation(self.data, self.grid.turn_to(codes)))
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

        Raises:
            ConfigError: there is no such grid or transform.
            DataError: no voxel of the grid lies in the volume.
        """
        import SimpleITK as sitk  # here, and below: it takes a second to load

        if not isinstance(grid, Grid):
            raise ConfigError(f"grid: volume.grid or a Grid is due, got {kind_of(grid)}")
        if not isinstance(transform, sitk.Transform | None):
            raise ConfigError(f"transform: one of SimpleITK is due, got {kind_of(transform)}")
        moved = moved_to(self, grid, transform, nearest=nearest, keep_zeros=keep_zeros)
        if not moved.data.any():
            check_met(grid, self.grid, transform)
        return moved

    def to_sitk(self) -> "sitk.Image":
        """As a SimpleITK image (LPS+, axes in reverse order in memory)."""
        import SimpleITK as sitk

        data = self.data.astype(np.uint8) if self.data.dtype == bool else self.data
        data = data.astype(data.dtype.newbyteorder("="))  # ITK knows the machine's byte order alone
        image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
        return placed(image, self.grid)

    @classmethod
    def from_sitk(cls, image: "sitk.Image", space_code: int = 2) -> "Volume":
        """From a SimpleITK image.

        Raises:
            ConfigError: it is none, or has not three axes and one number a voxel.
        """
        import SimpleITK as sitk

        grid = grid_of(image)
        if (n := image.GetNumberOfComponentsPerPixel()) != 1:
            raise ConfigError(f"image: one number a voxel is due, it has {n}")
        return cls(sitk.GetArrayFromImage(image).transpose(2, 1, 0), grid.affine, space_code)


def moved_to(
    volume: Volume,
    grid: Grid,
    transform: "sitk.Transform | None" = None,
    *,
    nearest: bool = False,
    keep_zeros: bool = True,
) -> Volume:
    """The values on another grid, all 0 where that lies elsewhere; see `Volume.resample`."""
    import SimpleITK as sitk

    transform = transform or sitk.Transform()
    how = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    data = volume.data if nearest else volume.data.astype(np.float32)
    image = Volume(data, volume.affine).to_sitk()

    def moved(image: "sitk.Image") -> np.ndarray:
        out = sitk.Resample(image, empty_sitk(grid), transform, how, 0.0)
        return sitk.GetArrayFromImage(out).transpose(2, 1, 0)

    values = moved(image)
    if not nearest and (variance := volume.grid.blur(grid, transform)).any():
        smooth = sitk.DiscreteGaussian(image, variance.tolist(), 32, 1e-3)
        values = np.where((values == 0) & keep_zeros, values, moved(smooth))
    return Volume(values, grid.affine, volume.space_code)


def write_series(path: Path, frames: Sequence[Volume], space_code: int) -> None:
    """Write volumes on one grid as a 4-D NIfTI image, one after the other; whole or not at all."""
    data = np.stack([frame.data for frame in frames], axis=-1)
    header = nib.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    place(header, frames[0].affine, (space_code, space_code))
    with whole(path) as part:
        nib.save(nib.Nifti1Image(data, None, header), part)


def together(
    volumes: Mapping[str, Volume],
    *,
    at: Sequence[float] | None = None,
    outline: Volume | None = None,
) -> "Figure":
    """Volumes of one grid by title, in the same planes and the same greys; see `Volume.figure`."""
    check_shown(volumes, outline)
    turned = {title: volume.reorient("RAS") for title, volume in volumes.items()}
    edge = outline and outline.reorient("RAS")
    first = next(iter(turned.values()))
    for title, other in [*turned.items(), ("outline", edge or first)]:
        if not other.grid.matches(first.grid, 0.01):
            raise ConfigError(
                f"{title}: lies on a grid of {other.grid}, the first volume on {first.grid} (or "
                f"elsewhere in the world); resample it: volume.resample(first.grid)"
            )
    shown = [Shown(title, v.data, edge and edge.data) for title, v in turned.items()]
    return figure_of(shown, first.grid, at, str(next(iter(volumes.values())).grid))


def check_shown(volumes: Mapping[str, Volume], outline: Volume | None) -> None:
    """Refuse, by a ConfigError, to show what is no volume."""
    if not isinstance(volumes, Mapping) or not volumes:
        raise ConfigError(
            f"volumes: one or more by title are due, {{'a brain': brain}}, got {kind_of(volumes)}"
        )
    outlines = [] if outline is None else [("outline", outline)]
    for title, one in [*volumes.items(), *outlines]:
        if not isinstance(one, Volume):
            raise ConfigError(f"{title}: a volume is due, got {kind_of(one)}")


def mni_grid(spacing: float) -> Grid:
    """The field of view of 160 x 224 x 160 mm around the MNI152 brain, RAS+.

    At 1 mm 160 x 224 x 160 voxels, at 2 mm 80 x 112 x 80, at 4 mm 40 x 56 x 40.
    """
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = (
        np.array([-80.0, -130.0, -73.0]) + spacing / 2
    )  # the box's corner, then half a voxel
    return Grid(tuple(round(n / spacing) for n in (160, 224, 160)), affine)
