"""Jacobians of maps that are known."""

import numpy as np
import pytest
import SimpleITK as sitk

from tests.transforms.scenes import FIXED, MOVING, WIDE, affine_matrix, points_of, waves
from vol3d.grid import LPS, Grid, placed
from vol3d.transforms.displacement import jacobian, log_jacobian


@pytest.mark.parametrize("grid", [FIXED, MOVING, WIDE])
def test_a_linear_map_has_its_determinant_on_any_grid(grid: Grid):
    A = affine_matrix()[:3, :3]
    u = np.einsum("ij,j...->i...", A - np.eye(3), points_of(grid))
    assert jacobian(u, grid) == pytest.approx(np.linalg.det(A))
    assert log_jacobian(u, grid) == pytest.approx(np.log(np.linalg.det(A)))


def test_a_map_that_bends():
    """x -> x + a sin(x / s), evenly along each axis of the world: det J is a product of cosines."""
    grid = Grid(FIXED.shape, FIXED.affine @ np.diag([0.25, 0.25, 0.25, 1]))
    x, a, s = points_of(grid), 3.0, 8.0
    expected = (1 + a / s * np.cos(x / s)).prod(0)
    assert np.ptp(expected) > 0.5
    inner = (slice(1, -1),) * 3
    got = jacobian(a * np.sin(x / s), grid)[inner]
    np.testing.assert_allclose(got, expected[inner], rtol=3e-3)


def test_against_itk_on_a_straight_anisotropic_grid():
    """ITK takes derivatives along the axes of the array, so that its filter is right on these."""
    grid = Grid((16, 18, 14), np.diag([-2.0, -1.5, 3.0, 1.0]))
    u = waves(grid, mm=15.0)
    vectors = np.einsum("ij,jxyz->zyxi", LPS, u.astype(np.float64))
    image = placed(sitk.GetImageFromArray(vectors, isVector=True), grid)
    theirs = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    inner = (slice(1, -1),) * 3
    expected = theirs.transpose(2, 1, 0)[inner]
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(jacobian(u, grid)[inner], expected, atol=1e-5)


def test_where_it_folds_the_logarithm_is_nan():
    grid = Grid((8, 8, 8), np.eye(4))
    u = -1.5 * points_of(grid)
    assert jacobian(u, grid) == pytest.approx(-0.125)
    assert np.isnan(log_jacobian(u, grid)).all()


def test_a_slice_has_one_too():
    grid = Grid((8, 8, 1), np.diag([2.0, 2.0, 5.0, 1.0]))
    assert jacobian(np.float32(0.5) * points_of(grid), grid) == pytest.approx(1.5**2)
