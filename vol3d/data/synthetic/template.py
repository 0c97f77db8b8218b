"""The MNI152 template that nilearn ships: T1, tissue shares, and a mask of the lateral ventricles."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from nilearn import datasets
from scipy import ndimage

from vol3d.data.synthetic.warp import block_mean
from vol3d.volume import Grid, Volume, mni_grid

TISSUES = ("csf", "gm", "wm", "ventricles")
"""The order of the tissues; label i + 1 in label maps."""


@dataclass(frozen=True, eq=False)
class Template:
    """The template on a grid.

    Attributes:
        grid: where its voxels lie.
        t1: [X, Y, Z] intensities in [0, 1], 0 outside the brain.
        tissues: [4, X, Y, Z] which share of each voxel is CSF, grey matter, white matter and
            lateral ventricle.
    """

    grid: Grid
    t1: np.ndarray
    tissues: np.ndarray


@lru_cache(maxsize=2)
def load_template(spacing: float) -> Template:
    """The template in the field of view of 160 x 224 x 160 mm at a spacing of 1, 2 or 4 mm."""
    t1 = read(datasets.load_mni152_template(resolution=1))
    gm = read(datasets.load_mni152_gm_template(resolution=1))
    wm = read(datasets.load_mni152_wm_template(resolution=1))
    brain = t1.data > 0.02
    fluid = np.clip(1 - gm.data - wm.data, 0, 1) * brain
    ventricles = find_ventricles(fluid, t1.affine)
    tissues = (fluid - ventricles, gm.data * brain, wm.data * brain, ventricles)

    grid = mni_grid(spacing)
    tissues = np.stack([average(Volume(p, t1.affine), grid) for p in tissues])  # [4, X, Y, Z]
    tissues /= np.maximum(tissues.sum(0), 1)
    return Template(grid, average(Volume(t1.data * brain, t1.affine), grid), tissues)


def read(image) -> Volume:
    """A nilearn template as float32 with its peak at 1, cropped to a little more than the view."""
    low, high = mni_box(image.affine, [-82, -132, -75], [82, 96, 89])
    data = np.asarray(image.dataobj[low[0] : high[0], low[1] : high[1], low[2] : high[2]], "f4")
    affine = image.affine.copy()
    affine[:3, 3] += low
    return Volume(data / data.max(), affine)


def find_ventricles(fluid: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Which share of each voxel is lateral ventricle, at 1 mm.

    Within a box around them, the lateral ventricles are the two largest pieces of nearly pure fluid
    that do not lie on the midline, as the third ventricle and the cisterns behind it do. The partly
    filled voxels around the pieces are theirs, too.
    """
    low, high = mni_box(affine, [-38, -65, -5], [38, 40, 32])
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    pieces, n = ndimage.label(fluid[box] > 0.7)
    sizes = np.bincount(pieces.ravel())
    middles = ndimage.center_of_mass(pieces > 0, pieces, range(1, n + 1))
    right_mm = {i + 1: abs(m[0] + low[0] + affine[0, 3]) for i, m in enumerate(middles)}
    lateral = sorted((i for i in right_mm if right_mm[i] > 8), key=lambda i: -sizes[i])[:2]
    near = ndimage.binary_dilation(np.isin(pieces, lateral), iterations=3)
    ventricles = np.zeros_like(fluid)
    ventricles[box] = fluid[box] * (near & (fluid[box] > 0.15))
    return ventricles


def mni_box(
    affine: np.ndarray, low_mm: list[float], high_mm: list[float]
) -> tuple[list[int], list[int]]:
    """First and last (exclusive) voxels between two corners in MNI mm, on a 1 mm grid, clipped at 0."""
    low = [max(round(a - o), 0) for a, o in zip(low_mm, affine[:3, 3], strict=True)]
    high = [round(b - o) + 1 for b, o in zip(high_mm, affine[:3, 3], strict=True)]
    return low, high


def average(volume: Volume, grid: Grid) -> np.ndarray:
    """The 1 mm template's mean in each voxel of a grid of 1, 2 or 4 mm."""
    if grid.spacing[0] == 4:
        return block_mean(average(volume, mni_grid(2.0))[None], 2)[0]
    data = volume.data
    if grid.spacing[0] == 2:  # a 2 mm voxel covers one voxel of the template and two halves
        for axis in range(3):
            data = ndimage.correlate1d(data, np.array([0.25, 0.5, 0.25]), axis, mode="constant")
    return Volume(data, volume.affine).resample(grid).data.astype(np.float32)
