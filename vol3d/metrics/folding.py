"""Folding: how much of space a displacement field turns inside out.

Central differences miss folds: they skip the voxel in the middle. Between eight neighbouring voxels a
field is therefore taken as linear in tetrahedra, and these are looked at one by one (Liu et al. 2024,
IJCV 132:5371-5381, arXiv:2212.06060). A cube is cut into five of them in two ways: four at corners that
share no edge, and the one between these.
"""

from itertools import product

import numpy as np

from vol3d.transforms.displacement import determinant, jacobian, to_voxels
from vol3d.volume import Grid

CORNERS = [[(i, 0, 0), (0, j, 0), (0, 0, k)] for i, j, k in product((1, -1), repeat=3)]
"""Edges, from the voxel, of the tetrahedra at corners of the eight cubes around it."""
MIDDLES = [[(-1, -1, 0), (-1, 0, -1), (0, -1, -1)], [(1, 1, 0), (0, 1, 1), (1, 0, 1)]]
"""Of those in the middle of the cubes that end and begin at the voxel: J1* and J2* of the paper."""


def folding(u: np.ndarray, grid: Grid, mask: np.ndarray | None = None) -> dict[str, float]:
    """How much of a field folds, and how evenly it stretches.

    Args:
        u: [3, X, Y, Z] mm, RAS+.
        grid: where its voxels lie.
        mask: [X, Y, Z]; what is above 0 counts. Everything if not given.

    Returns:
        folded_percent: voxels with det J <= 0 by central differences; ndv_percent: non-diffeomorphic
        volume, of that of the mask's voxels; ndv_ml; min_jacobian; sd_log_jacobian, over the voxels that
        do not fold.
    """
    inside = np.ones(grid.shape, bool) if mask is None else mask > 0
    det = jacobian(u, grid)[inside]
    ndv = float(non_diffeomorphic_volume(u, grid)[inside].sum(dtype=np.float64))
    return {
        "folded_percent": 100 * float((det <= 0).mean()),
        "ndv_percent": 100 * ndv / int(inside.sum()),
        "ndv_ml": ndv * grid.voxel_ml,
        "min_jacobian": float(det.min()),
        "sd_log_jacobian": float(np.log(det[det > 0]).std()) if (det > 0).any() else float("nan"),
    }


def non_diffeomorphic_volume(u: np.ndarray, grid: Grid) -> np.ndarray:
    """The volume [X, Y, Z] of tetrahedra that are turned inside out, in voxels (Liu et al., NDV).

    Each of the two ways to cut cubes covers space once, so that each counts half.
    """
    volumes = tetrahedra(u, grid)
    return sum(np.maximum(-v, 0) for v in volumes) / 2


def is_digital_diffeomorphism(u: np.ndarray, grid: Grid) -> bool:
    """Whether every tetrahedron keeps a positive volume (Liu et al., Definition 4)."""
    return all(bool((v > 0).all()) for v in tetrahedra(u, grid))


def tetrahedra(u: np.ndarray, grid: Grid) -> list[np.ndarray]:
    """Signed volumes, in voxels, of ten tetrahedra after the transform, each [X, Y, Z].

    All have a corner at the voxel itself. Six-fold, the first eight are the determinants of forward and
    backward differences. Outside the grid, u goes on as at its faces.
    """
    w = np.pad(to_voxels(u, grid), [(0, 0), *[(1, 1)] * 3], mode="edge")
    here = w[:, 1:-1, 1:-1, 1:-1]

    def edge(step: tuple[int, int, int]) -> np.ndarray:
        """Where the neighbour at this step goes, seen from where the voxel goes; [3, X, Y, Z]."""
        there = [slice(1 + d, 1 + d + n) for d, n in zip(step, grid.shape, strict=True)]
        return np.array(step, w.dtype)[:, None, None, None] + w[:, *there] - here

    volumes = []
    for steps in [*CORNERS, *MIDDLES]:
        sign = np.sign(np.linalg.det(steps))
        volumes.append(determinant(np.stack([edge(s) for s in steps])) * (sign / 6).astype(w.dtype))
    return volumes
