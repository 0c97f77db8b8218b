"""Chains of exponentials: their inverse, their halves, and the path between nothing and all."""

import pytest
import torch

from tests.transforms.test_warp import SHAPE, swirl
from vol3d.transforms.deformation import Deformation, resized
from vol3d.transforms.warp import compose, integrate


@pytest.fixture
def chain() -> Deformation:
    """Three velocities, the outermost on a grid of half the size."""
    half = [n // 2 for n in SHAPE]
    return Deformation(
        [resized(swirl(1.5), half), swirl(1.0).roll(1, 1), swirl(0.7).roll(2, 1)], SHAPE
    )


def test_one_velocity_is_its_exponential():
    u = Deformation([swirl(2.0)], SHAPE).displacement()
    torch.testing.assert_close(u, integrate(swirl(2.0)), atol=0.02, rtol=0)
    assert u.abs().max() > 1.5


def test_a_chain_is_a_palindrome(chain: Deformation):
    a, b, c = chain.parts(0.5)
    expected = b
    for part in (compose(c, c), b):
        expected = compose(part, expected)
    expected = compose(a, compose(expected, a))
    torch.testing.assert_close(chain.displacement(), expected, atol=0.1, rtol=0)
    assert chain.displacement().abs().max() > 1


def test_the_inverse_leads_back(chain: Deformation):
    there, back = chain.displacement(), chain.inverse()
    for both in (compose(back, there), compose(there, back)):
        assert both.abs().max() < 0.2
        assert both.abs().mean() < 0.01
    negated = Deformation([-v for v in chain.velocities], SHAPE)
    torch.testing.assert_close(back, negated.displacement(), atol=0, rtol=0)


def test_halves_meet_in_the_middle(chain: Deformation):
    """T o to_fixed = to_moving."""
    u = compose(chain.displacement(), chain.to_fixed())
    torch.testing.assert_close(u, chain.to_moving(), atol=0.15, rtol=0)


def test_the_path_begins_as_nothing_and_ends_as_all(chain: Deformation):
    assert chain.displacement(0.0).abs().max() == 0
    a, b, c = (chain.displacement(t).norm(dim=1).mean() for t in (0.25, 0.5, 1.0))
    assert 0 < a < b < c
    torch.testing.assert_close(chain.displacement(-0.5), chain.inverse(0.5), atol=0, rtol=0)
