"""Volumes along the axes of the world, which is what napari slices rightly.

Of a volume that lies oblique, napari's 2-D view would show voxels that are not in the plane. So what it
shows lies along the world's axes: turned, where that moves no voxel, else resampled to a lattice that all
oblique volumes of one voxel size share. The original stays with the layer, for values and for writing.
"""

from math import prod

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation

from vol3d.io.header import corners
from vol3d.volume import Grid, Volume

STRAIGHT = 0.1
"""In voxels: a grid whose corners lie no further from the world's axes counts as along them."""
MOST_VOXELS = 64_000_000
"""Of a resampled volume; thin slices of a thick slab would make more, and are shown coarser."""


def straight_grid(grid: Grid) -> Grid | None:
    """The grid along the world's axes with the same voxels, RAS+; None of one that lies oblique."""
    near = grid.turned("RAS")
    middle = (np.array(near.shape) - 1) / 2
    affine = np.diag([*near.spacing, 1.0])
    affine[:3, 3] = near.affine[:3] @ [*middle, 1] - affine[:3, :3] @ middle
    straight = Grid(near.shape, affine)
    return straight if straight.apart(near) <= STRAIGHT * min(near.spacing) else None


def lattice(grid: Grid, spacing: float | None = None, most: int = MOST_VOXELS) -> Grid:
    """Along the world's axes, RAS+, around all of a grid; voxels lie on whole multiples of the spacing.

    Args:
        grid: what is to lie within.
        spacing: mm; without it the grid's finest, but for the limit of voxels.
        most: voxels, without a spacing.
    """
    if spacing is None:
        box = np.ptp(edges(grid), axis=1)
        spacing = max(min(grid.spacing), (prod(box) / most) ** (1 / 3))
    low = np.floor(edges(grid).min(1) / spacing)
    high = np.ceil(edges(grid).max(1) / spacing)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = low * spacing
    return Grid(tuple(int(n) for n in high - low + 1), affine)


def edges(grid: Grid) -> np.ndarray:
    """[3, 8] the places of the corner voxels' centres, mm."""
    return (grid.affine @ corners(grid.shape))[:3]


def straight(volume: Volume, *, nearest: bool = False) -> Volume:
    """A volume as it is shown: along the world's axes, RAS+.

    Where nothing is resampled, it is the same memory: what is drawn there is drawn on the volume.

    Args:
        volume: anywhere.
        nearest: values are labels, which must not be mixed.
    """
    grid = straight_grid(volume.grid)
    if grid is None:
        return volume.resample(lattice(volume.grid), nearest=nearest)
    data = apply_orientation(volume.data, io_orientation(volume.affine))
    return Volume(data, grid.affine, volume.space_code)


def world_box(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest x, y, z in mm of the voxels' outer faces."""
    ends = np.array(np.meshgrid(*[[-0.5, n - 0.5] for n in grid.shape])).reshape(3, -1)
    corners = grid.affine[:3, :3] @ ends + grid.origin[:, None]
    return corners.min(1), corners.max(1)
