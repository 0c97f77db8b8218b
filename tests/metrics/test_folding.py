"""Folding, by hand, and as the authors of the measure count it."""

import numpy as np
import pytest

from tests.transforms.scenes import FIXED
from vol3d.metrics.folding import (
    folding,
    is_digital_diffeomorphism,
    non_diffeomorphic_volume,
    tetrahedra,
)
from vol3d.transforms.displacement import jacobian, to_mm
from vol3d.volume import Grid

GRID = Grid((7, 7, 7), np.eye(4))


def one_voxel(move: float) -> np.ndarray:
    """The voxel in the middle goes so far along X; all others stay."""
    u = np.zeros((3, *GRID.shape))
    u[0, 3, 3, 3] = move
    return u


def theirs() -> np.ndarray:
    """A field that folds much, [3, 6, 7, 8] in voxels."""
    i, j, k = np.indices((6, 7, 8)).astype(np.float32)
    return np.stack(
        [
            np.sin(1.7 * j + 0.3 * k),
            1.2 * np.cos(2.1 * i + k),
            0.9 * np.sin(i + 1.3 * j + 2 * k),
        ]
    )


def test_nothing_moved_is_twice_the_space():
    volumes = tetrahedra(np.zeros((3, *GRID.shape)), GRID)
    assert [v.mean() for v in volumes] == pytest.approx([1 / 6] * 8 + [1 / 3] * 2)
    assert is_digital_diffeomorphism(np.zeros((3, *GRID.shape)), GRID)


@pytest.mark.parametrize("move", [0.9, 1.5, 2.0])
def test_one_voxel_past_its_neighbour(move: float):
    """By hand: 4 corner tetrahedra at the voxel and 4 at the neighbour, each of volume (1 - move) / 6.

    They are those with the edge between the two. A middle one on the side of X has the voxel at a
    corner, (0, 0, 0), and the plane of the other three, x + y + z = 2 in a cube whose axes point away,
    at a distance of 2 along X: its volume is (2 - move) / 6, so it is flat at 2 and never negative.
    """
    ndv = non_diffeomorphic_volume(one_voxel(move), GRID).sum()
    assert ndv == pytest.approx(max(move - 1, 0) / 6 * 8 / 2)
    assert is_digital_diffeomorphism(one_voxel(move), GRID) == (move < 1)


def test_central_differences_miss_it():
    """They skip the voxel in the middle: Liu et al., Section 3."""
    assert (jacobian(one_voxel(1.5), GRID) > 0).all()
    assert folding(one_voxel(1.5), GRID)["folded_percent"] == 0
    assert folding(one_voxel(1.5), GRID)["ndv_percent"] == pytest.approx(100 / 3 / 343)


def test_further_than_two_a_middle_tetrahedron_turns_over():
    """Beyond 2 the four on that side add (move - 2) / 6 each, by the argument above."""
    ndv = non_diffeomorphic_volume(one_voxel(2.5), GRID).sum()
    assert ndv == pytest.approx((1.5 / 6 * 8 + 0.5 / 6 * 4) / 2)


def test_as_the_authors_count_it():
    """Golden values: digital-diffeomorphism 1.1.1, `ndv(field, mask, is_disp=True)`, in percent."""
    grid = Grid((6, 7, 8), np.eye(4))
    mask = np.indices(grid.shape).sum(0) % 3 > 0
    assert folding(theirs(), grid)["ndv_percent"] == pytest.approx(29.826614, abs=1e-4)
    assert folding(theirs(), grid, mask)["ndv_percent"] == pytest.approx(29.812326, abs=1e-4)


def test_on_an_oblique_anisotropic_flipped_grid_it_is_the_same_share():
    straight = Grid((6, 7, 8), np.eye(4))
    grid = Grid((6, 7, 8), FIXED.affine)
    a, b = folding(theirs(), straight), folding(to_mm(theirs(), grid), grid)
    assert a["ndv_percent"] == pytest.approx(b["ndv_percent"], rel=1e-4)
    assert b["ndv_ml"] / a["ndv_ml"] == pytest.approx(9.0, rel=1e-4)  # voxels of 2 x 1.5 x 3 mm
    assert a["min_jacobian"] == pytest.approx(b["min_jacobian"], rel=1e-4)


def test_a_mirror_folds_everywhere():
    u = np.zeros((3, *GRID.shape))
    u[0] = -2 * np.arange(7)[:, None, None]
    found = folding(u, GRID)
    assert found["folded_percent"] == 100
    assert found["min_jacobian"] == pytest.approx(-1)
    assert np.isnan(found["sd_log_jacobian"])
