"""An image as networks see it: RAS+, 0 outside its brain mask, on a grid, intensities in [0, 1]."""

from pathlib import Path

import numpy as np

from vol3d.data.visit import Visit
from vol3d.errors import DataError
from vol3d.volume import Grid, Volume

HEADROOM = 1.2
"""1 is this many times the 99.5th percentile of the brain: above all tissue, and what is brighter,
vessels for the most part, is 1 to a network."""


def as_seen(brain: Volume, grid: Grid | None = None) -> Volume:
    """What a network sees of a brain: in RAS+, on a grid, intensities in [0, 1].

    Args:
        brain: the image, with 0 outside its mask (see `within_mask`).
        grid: in RAS+; None: where the image lies.
    """
    brain = onto(brain, grid)
    return Volume(normalise(brain.data), brain.affine, brain.space_code)


def onto(volume: Volume, grid: Grid | None, *, nearest: bool = False) -> Volume:
    """In RAS+, and on a grid, if one is given; resampled only where it does not lie there already."""
    volume = volume.reorient("RAS")
    if grid is None or volume.grid.matches(grid):
        return volume
    return volume.resample(grid, nearest=nearest)


def within_mask(scan: Visit, path: Path, volume: Volume) -> Volume:
    """The image with 0 outside its brain mask, where it has one.

    Raises:
        DataError: the mask lies elsewhere.
    """
    if scan.mask is None:
        return volume
    return within(volume, Volume.read(scan.mask, scan.form), scan.mask)


def within(volume: Volume, mask: Volume, name: Path) -> Volume:
    """The image with 0 outside a mask, which messages call `name`; a DataError if it lies elsewhere."""
    volume, mask = (v.reorient("RAS") for v in (volume, mask))
    if not mask.grid.matches(volume.grid, tolerance_mm=0.01):
        raise DataError(
            f"{name}: lies on a grid of {mask.grid}, the scan on {volume.grid} (or elsewhere in the "
            f"world); resample it onto the scan, or leave it out with data.mask_entities=null"
        )
    brain = volume.data * (mask.data > 0)
    if not brain.any() and volume.data.any():
        raise DataError(f"{name}: nothing of the scan lies in this mask; is it of another scan?")
    return Volume(brain, volume.affine, volume.space_code)


def normalise(data: np.ndarray) -> np.ndarray:
    """Intensities in [0, 1]: divided by 1.2 times the 99.5th percentile of the voxels above 0."""
    x = data.astype(np.float32)
    return np.clip(x / one_of(x), 0, 1).astype(np.float32)


def one_of(data: np.ndarray) -> float:
    """The intensity that is 1 to a network."""
    brain = data[data > 0]
    return HEADROOM * np.percentile(brain, 99.5) if brain.size else 1.0
