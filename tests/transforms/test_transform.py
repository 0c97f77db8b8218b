"""Transforms lead where they should, there and back."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import map_coordinates

from tests.transforms.scenes import FIXED, WIDE, affine_matrix, points_of, waves
from vol3d.errors import DataError
from vol3d.transforms.transform import (
    affine,
    chain,
    field,
    field_of,
    inverse,
    matrix_of,
    move_points,
    parts,
    sampled,
)
from vol3d.volume import Grid

POINTS = np.random.default_rng(0).uniform(-30, 30, (200, 3))


def by_affine(points: np.ndarray) -> np.ndarray:
    return points @ affine_matrix()[:3, :3].T + affine_matrix()[:3, 3]


def by_field(points: np.ndarray, u: np.ndarray, grid: Grid) -> np.ndarray:
    index = np.linalg.inv(grid.affine) @ np.c_[points, np.ones(len(points))].T
    return points + np.stack([map_coordinates(ui, index[:3], order=1) for ui in u], axis=1)


def test_a_matrix_in_ras_is_that_map():
    np.testing.assert_allclose(move_points(affine(affine_matrix()), POINTS), by_affine(POINTS))
    np.testing.assert_allclose(matrix_of(affine(affine_matrix())), affine_matrix(), atol=1e-12)


def test_a_field_in_ras_is_that_map_on_an_oblique_grid():
    u = waves(WIDE)
    moved = move_points(field(u, WIDE), POINTS)
    assert np.abs(moved - POINTS).max() > 3
    np.testing.assert_allclose(moved, by_field(POINTS, u, WIDE), atol=1e-5)
    got, grid = field_of(field(u, WIDE))
    np.testing.assert_allclose(got, u)
    assert grid.matches(WIDE)


def test_outside_its_grid_a_field_moves_nothing():
    grid = Grid((4, 5, 6), np.diag([2.0, 3.0, 4.0, 1.0]))
    u = np.ones((3, *grid.shape), np.float32)
    edges = np.array([[-0.9, 0, 0], [-1.1, 0, 0], [6.9, 0, 0], [7.1, 0, 0], [500, 0, 0]])
    moved = move_points(field(u, grid), edges) - edges
    np.testing.assert_allclose(moved[:, 0], [1, 0, 1, 0, 0], atol=1e-9)


def test_a_chain_goes_from_first_to_last():
    u = waves(WIDE)
    both = chain([field(u, WIDE), affine(affine_matrix())])
    np.testing.assert_allclose(
        move_points(both, POINTS), by_affine(by_field(POINTS, u, WIDE)), atol=1e-5
    )
    other = move_points(chain([affine(affine_matrix()), field(u, WIDE)]), POINTS)
    np.testing.assert_allclose(other, by_field(by_affine(POINTS), u, WIDE), atol=1e-5)
    names = [p.GetName() for p in parts(chain([both, sitk.Euler3DTransform()]))]
    assert names == ["DisplacementFieldTransform", "AffineTransform", "Euler3DTransform"]


def test_a_chain_sampled_on_a_grid():
    both = chain([field(waves(WIDE), WIDE), affine(affine_matrix())])
    points = points_of(FIXED).reshape(3, -1).T
    u = sampled(both, FIXED).reshape(3, -1).T
    np.testing.assert_allclose(points + u, move_points(both, points), atol=1e-9)


def test_there_and_back_is_nothing():
    both = chain([field(waves(WIDE), WIDE), affine(affine_matrix())])
    there_and_back = move_points(inverse(both), move_points(both, POINTS))
    assert np.abs(there_and_back - POINTS).max() < 0.4  # 5 mm voxels; the inverse is linear between
    inner, fine = POINTS / 2, field(waves(FIXED), FIXED)
    there = move_points(fine, inner)
    assert np.abs(there - inner).max() > 3
    assert np.abs(move_points(inverse(fine), there) - inner).max() < 0.05


def test_what_leaves_the_grid_comes_back():
    grid = Grid((10, 10, 10), np.eye(4))
    u = np.zeros((3, 10, 10, 10), np.float32)
    u[0] = 4.5
    back = move_points(inverse(field(u, grid)), np.array([[13.5, 5, 5], [4.5, 5, 5]]))
    np.testing.assert_allclose(back, [[9, 5, 5], [0, 5, 5]], atol=1e-3)


def test_what_folds_has_no_inverse():
    grid = Grid((10, 10, 10), np.diag([2.0, 3.0, 1.0, 1.0]))
    mirror = -2 * (points_of(grid) - 5)
    with pytest.raises(DataError, match=r"has no inverse: it folds, or nearly so, in \d\d"):
        inverse(field(mirror, grid))
    with pytest.raises(DataError, match="this AffineTransform has no inverse"):
        inverse(affine(np.diag([1.0, 1.0, 0.0, 1.0])))
    spline = sitk.BSplineTransformInitializer(sitk.Image(8, 8, 8, sitk.sitkFloat32), [4, 4, 4])
    with pytest.raises(DataError, match="this BSplineTransform has no inverse"):
        inverse(spline)


def test_where_it_folds_the_way_back_is_one_of_several(caplog: pytest.LogCaptureFixture):
    u = np.zeros((3, 10, 10, 10), np.float32)
    u[0, 5:7, 5, 5] = 3, -3
    back = inverse(field(u, Grid((10, 10, 10), np.eye(4))))
    assert "warning: a field folds in 0.20% of its voxels" in caplog.text
    points = np.indices((10, 10, 10)).reshape(3, -1).T.astype(float)
    landed = move_points(field(u, Grid((10, 10, 10), np.eye(4))), move_points(back, points))
    assert np.abs(landed - points).max() < 0.01
