"""Guidance: the formula, the special case of a single group, and no call that is not needed."""

import pytest
import torch

from vol3d.diffusion.classifier_free_guidance import Guided
from vol3d.diffusion.condition import Condition
from vol3d.diffusion.denoiser import Denoiser
from vol3d.diffusion.prediction import V
from vol3d.diffusion.schedules import LinearBeta

SIGMA = torch.tensor(0.7, dtype=torch.float64)


@pytest.fixture
def denoiser(tiny_net):
    return Denoiser(tiny_net, V(), LinearBeta()).eval().requires_grad_(False)


@pytest.fixture
def x():
    return torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))


VECTOR, TOKENS = torch.tensor([[1.0, 2.0], [0.5, -1.0]]), torch.full((2, 3, 2), 0.8)
FULL = Condition(vector=VECTOR, tokens=TOKENS)
NOTHING = Condition()


def counted(denoiser, seen):
    def denoise_with(x, sigma, cond):
        seen.append(cond)
        return denoiser(x, sigma, cond)

    return denoise_with


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_one_group_is_classifier_free_guidance(scale, denoiser, x):
    out = Guided(denoiser, FULL, [(scale, NOTHING)])(x, SIGMA)
    with_it, without = denoiser(x, SIGMA, FULL), denoiser(x, SIGMA, NOTHING)
    torch.testing.assert_close(out, without + scale * (with_it - without))
    if scale == 2.5:
        assert (out - with_it).abs().max() > 0.01


def test_groups_add_up(denoiser, x):
    only_tokens, only_vector = Condition(tokens=TOKENS), Condition(vector=VECTOR)
    out = Guided(denoiser, FULL, [(3.0, only_tokens), (0.5, only_vector)])(x, SIGMA)
    D = denoiser(x, SIGMA, FULL)
    expected = D + 2.0 * (D - denoiser(x, SIGMA, only_tokens))
    expected = expected - 0.5 * (D - denoiser(x, SIGMA, only_vector))
    torch.testing.assert_close(out, expected)


def test_weight_one_costs_no_call_and_changes_no_bit(denoiser, x):
    seen = []
    out = Guided(counted(denoiser, seen), FULL, [(1.0, NOTHING), (1, Condition(vector=VECTOR))])(
        x, SIGMA
    )
    assert seen == [FULL]
    assert torch.equal(out, denoiser(x, SIGMA, FULL))


def test_one_call_for_each_active_group(denoiser, x):
    seen = []
    Guided(counted(denoiser, seen), FULL, [(2.0, NOTHING), (1.0, NOTHING)])(x, SIGMA)
    assert seen == [FULL, NOTHING]
