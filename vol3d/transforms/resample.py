"""Volumes moved onto another grid through a transform, however long the chain: each is read once.

As ITK and ANTs do it: the grid's voxels are sent through the transform, and the volume is read where they
arrive; 0 outside. Nothing is smoothed, so to much larger voxels `Volume.resample` is the better way.
"""

from typing import Literal

import numpy as np
import SimpleITK as sitk

from vol3d.errors import DataError
from vol3d.grid import Grid, empty_sitk
from vol3d.volume import Volume

Interpolation = Literal["linear", "nearest", "cubic"]


def move_image(
    volume: Volume, transform: sitk.Transform, grid: Grid, interpolation: Interpolation = "linear"
) -> Volume:
    """An image, or a map of probabilities, on another grid, as float32.

    Args:
        volume: the moving volume.
        transform: from points of the grid to points of the volume.
        grid: of the fixed volume.
        interpolation: linear keeps to the range of the values, and probabilities that sum to 1 do so
            after it; cubic B-splines are sharper and go beyond it.
    """
    how = {
        "linear": sitk.sitkLinear,
        "nearest": sitk.sitkNearestNeighbor,
        "cubic": sitk.sitkBSpline3,
    }
    image = Volume(volume.data.astype(np.float32), volume.affine)
    return resampled(image, transform, grid, how[interpolation])


def move_labels(
    volume: Volume, transform: sitk.Transform, grid: Grid, *, nearest: bool = False
) -> Volume:
    """A label map on another grid: each voxel takes the label with the largest share of it.

    The shares are those of linear interpolation between the maps of each label alone, as in ANTs'
    GenericLabel; edges come out smoother than by the nearest neighbour, and no label is made up.

    Args:
        volume: whole numbers.
        transform: from points of the grid to points of the volume.
        grid: of the fixed volume.
        nearest: take the nearest voxel's label instead.

    Raises:
        DataError: a value is no whole number, or too large.
    """
    how = sitk.sitkNearestNeighbor if nearest else sitk.sitkLabelLinear
    return resampled(Volume(whole_numbers(volume.data), volume.affine), transform, grid, how)


def whole_numbers(data: np.ndarray) -> np.ndarray:
    """Labels as integers of a kind that ITK knows.

    Raises:
        DataError: they are none.
    """
    if data.dtype == bool:
        return data.astype(np.uint8)
    if np.can_cast(data.dtype, np.int32):
        return data.astype(np.int32) if data.dtype == np.int8 else data
    rounded = np.rint(data)
    if (off := rounded != data).any():
        raise DataError(f"labels are whole numbers, it holds {float(data[off][0]):g}")
    if (largest := float(np.abs(rounded).max(initial=0))) >= 2**31:
        raise DataError(f"labels are below 2^31, it holds {largest:.0f}")
    return rounded.astype(np.int32)


def resampled(volume: Volume, transform: sitk.Transform, grid: Grid, how: int) -> Volume:
    """The volume on another grid."""
    out = sitk.Resample(volume.to_sitk(), empty_sitk(grid), transform, how, 0.0)
    return Volume(sitk.GetArrayFromImage(out).transpose(2, 1, 0), grid.affine, volume.space_code)
