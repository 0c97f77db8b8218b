"""Warps of batches: against scipy, closed forms, and SimpleITK on grids that are not plain."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.linalg import expm
from scipy.ndimage import map_coordinates

from tests.transforms.scenes import FIXED, blobs, waves
from vol3d.transforms.displacement import to_mm, to_voxels
from vol3d.transforms.inversion import invert
from vol3d.transforms.resample import move_image
from vol3d.transforms.transform import field
from vol3d.transforms.warp import compose, integrate, warp

SHAPE = (20, 24, 22)
INNER = (..., *[slice(5, -5)] * 3)


def swirl(voxels: float = 1.0, batch: int = 1) -> torch.Tensor:
    """Smooth fields [B, 3, X, Y, Z] that fade out at the faces, in voxels."""
    grids = torch.meshgrid(*[torch.linspace(0, torch.pi, n) for n in SHAPE], indexing="ij")
    fade = torch.stack([g.sin() ** 2 for g in grids]).prod(0)
    x, y, z = grids
    u = torch.stack([(2 * y).sin() + z.cos(), (x + z).sin(), (2 * x - y).cos()])
    return voxels * fade * torch.stack([u.roll(i, 0) for i in range(batch)])


def identity() -> np.ndarray:
    return np.indices(SHAPE).astype(np.float64)


@pytest.mark.parametrize(("outside", "mode"), [("border", "nearest"), ("zeros", "grid-constant")])
def test_a_warp_against_scipy(outside: str, mode: str):
    images = torch.rand(2, 3, *SHAPE, dtype=torch.float64)
    u = 3 * torch.randn(2, 3, *SHAPE, dtype=torch.float64)
    got = warp(images, u, outside=outside)
    for b in range(2):
        there = identity() + u[b].numpy()
        for c in range(3):
            expected = map_coordinates(images[b, c].numpy(), there, order=1, mode=mode)
            np.testing.assert_allclose(got[b, c], expected, atol=1e-12)


def test_a_warp_in_voxels_is_the_transform_in_mm():
    """What a network makes of a batch, SimpleITK makes of the files."""
    image, u = blobs(FIXED), waves(FIXED)
    moved = move_image(image, field(u, FIXED), FIXED).data
    got = warp(
        torch.from_numpy(image.data)[None, None], torch.from_numpy(to_voxels(u, FIXED))[None]
    )[0, 0].numpy()
    assert np.abs(moved - image.data).max() > 0.5
    inner = (slice(3, -3),) * 3
    np.testing.assert_allclose(got[inner], moved[inner], atol=2e-4)
    np.testing.assert_allclose(to_mm(to_voxels(u, FIXED), FIXED), u, atol=1e-5)


def test_composed_fields_are_one_after_the_other():
    first, second = swirl(), swirl(1.5).roll(1, 1)
    image = swirl()[:, :1]  # smooth, since it is read twice
    twice = warp(warp(image, second), first)
    once = warp(image, compose(second, first))
    assert (once - image)[INNER].abs().max() > 0.1
    assert (once - twice)[INNER].abs().max() < 0.03
    a = torch.full((1, 3, *SHAPE), 1.25)
    torch.testing.assert_close(compose(a, -2 * a), -a)


def test_integrating_a_linear_velocity_is_the_matrix_exponential():
    """dx/dt = A x has the solution exp(A) x."""
    A = np.array([[0.1, 0.2, 0.0], [-0.15, -0.1, 0.05], [0.0, 0.1, 0.1]])
    x = identity() - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    v = torch.from_numpy(np.einsum("ij,j...->i...", A, x))[None]
    u = integrate(v, squarings=8)[0].numpy()
    middle = (slice(None), *[slice(7, -7)] * 3)
    expected = np.einsum("ij,j...->i...", expm(A) - np.eye(3), x)
    np.testing.assert_allclose(u[middle], expected[middle], atol=0.01)


def test_forwards_then_backwards_is_nothing_and_so_is_the_inverse():
    v = swirl(2.0, batch=2)
    there, back = integrate(v), integrate(-v)
    assert there.abs().max() > 1.5
    assert compose(back, there).abs().max() < 0.1
    assert compose(there, back).abs().max() < 0.1
    found, miss = invert(there)
    assert miss.max() < 1e-3
    assert compose(there, found).abs().max() < 2e-3
    assert (found - back).abs().max() < 0.1


def test_an_inverse_where_the_plain_iteration_diverges():
    """u(x) = 2 x stretches threefold: v <- -u(y + v) doubles each error, and half steps do not."""
    x = torch.from_numpy(identity() - (np.array(SHAPE)[:, None, None, None] - 1) / 2)[None]
    v, miss = invert(2 * x)
    assert miss.max() < 1e-3
    torch.testing.assert_close(v, -2 / 3 * x, atol=1e-3, rtol=0)


def test_an_inverse_where_it_turns_by_more_than_a_right_angle():
    """A twist around an axis, less with each voxel from it; the inverse is the twist the other way.

    There the step of the plain iteration points away from the solution.
    """
    x, y, _ = identity() - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    angle = np.deg2rad(110) * np.exp(-(x**2 + y**2) / 30)

    def twist(angle: np.ndarray) -> torch.Tensor:
        cos, sin = np.cos(angle), np.sin(angle)
        u = np.stack([cos * x - sin * y - x, sin * x + cos * y - y, 0 * x])
        return torch.from_numpy(u)[None]

    v, miss = invert(twist(angle))
    assert miss.max() < 1e-3
    assert (v - twist(-angle)).abs().max() < 0.25
    assert twist(angle).abs().max() > 3


def test_an_inverse_against_itk():
    u = swirl(2.0)
    image = sitk.GetImageFromArray(u[0].permute(3, 2, 1, 0).numpy().astype(float), isVector=True)
    theirs = sitk.InvertDisplacementField(
        image,
        maximumNumberOfIterations=100,
        maxErrorToleranceThreshold=1e-4,
        meanErrorToleranceThreshold=1e-5,
    )
    got = invert(u)[0][0].permute(3, 2, 1, 0).numpy()
    np.testing.assert_allclose(got, sitk.GetArrayFromImage(theirs), atol=0.02)


def test_where_a_field_folds_the_miss_tells():
    _, miss = invert(swirl(12.0))
    assert miss.max() > 0.5


def test_half_precision_does_not_blur_places():
    """In bfloat16 the voxel 201.5 would be 202."""
    image = torch.arange(210.0).view(1, 1, 210, 1, 1)
    u = torch.full((1, 3, 210, 1, 1), 0.0).bfloat16()
    u[:, 0] = 0.5
    moved = warp(image, u)
    assert moved.dtype == torch.float32
    assert moved[0, 0, 201, 0, 0] == pytest.approx(201.5, abs=1e-3)


def test_gradients_go_through():
    v = swirl(0.3).double()[..., :8, :8, :8].requires_grad_()
    image = torch.rand(1, 1, 8, 8, 8, dtype=torch.float64)

    def moved(v: torch.Tensor) -> torch.Tensor:
        return warp(image, integrate(v, squarings=2))[..., 3:5, 3:5, 3:5]

    assert torch.autograd.gradcheck(moved, v, eps=1e-6, atol=1e-4, nondet_tol=1e-9, fast_mode=True)
