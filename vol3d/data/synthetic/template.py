"""The MNI152 template that nilearn ships: T1, tissues, and a mask of the lateral ventricles."""

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
        images: [5, X, Y, Z] T1 intensities in [0, 1], 0 outside the brain; then the tissues.
    """

    grid: Grid
    images: np.ndarray

    @property
    def tissues(self) -> np.ndarray:
        """[4, X, Y, Z] which share of each voxel is CSF, grey, white matter, lateral ventricle."""
        return self.images[1:]


@lru_cache(maxsize=3)
def load_template(spacing: float) -> Template:
    """The template in the field of view of 160 x 224 x 160 mm at a spacing of 1, 2 or 4 mm."""
    if spacing > 1:
        fine = load_template(1.0)
        return Template(mni_grid(spacing), block_mean(fine.images, round(spacing)))
    t1 = read(datasets.load_mni152_template(resolution=1))
    gm = read(datasets.load_mni152_gm_template(resolution=1))
    wm = read(datasets.load_mni152_wm_template(resolution=1))
    brain = t1 > 0.02
    fluid = np.clip(1 - gm - wm, 0, 1) * brain
    grid = mni_grid(1.0)
    ventricles = find_ventricles(fluid, grid.affine)
    rest = np.stack([fluid - ventricles, gm, wm]).argmax(0)
    tissue = np.where(ventricles > 0.5, 3, rest)  # [X, Y, Z], each voxel is of one tissue
    tissues = [(tissue == i) & brain for i in range(len(TISSUES))]
    return Template(grid, np.stack([t1 * brain, *tissues]).astype(np.float32))


def read(image) -> np.ndarray:
    """A nilearn template in the field of view at 1 mm, [X, Y, Z], its peak scaled to 1."""
    data = np.asarray(image.dataobj, np.float32)
    return Volume(data / data.max(), image.affine).resample(mni_grid(1.0)).data


def find_ventricles(fluid: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Which share of each voxel is lateral ventricle, at 1 mm.

    Within a box around them, the lateral ventricles are the two largest pieces of nearly pure fluid
    that do not lie on the midline, as the third ventricle and the cisterns behind it do. The partly
    filled voxels around the pieces are theirs, too.
    """
    corners = (np.array([[-38, -65, -5], [38, 40, 32]]) - affine[:3, 3]).round().astype(int)  # mm
    low, box = corners[0], tuple(slice(a, b + 1) for a, b in corners.T)
    pieces, n = ndimage.label(fluid[box] > 0.7)
    sizes = np.bincount(pieces.ravel())
    middles = ndimage.center_of_mass(pieces > 0, pieces, range(1, n + 1))
    right_mm = {i + 1: abs(m[0] + low[0] + affine[0, 3]) for i, m in enumerate(middles)}
    lateral = sorted((i for i in right_mm if right_mm[i] > 8), key=lambda i: -sizes[i])[:2]
    near = ndimage.binary_dilation(np.isin(pieces, lateral), iterations=3)
    ventricles = np.zeros_like(fluid)
    ventricles[box] = fluid[box] * (near & (fluid[box] > 0.15))
    return ventricles
