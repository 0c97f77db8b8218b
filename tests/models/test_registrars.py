"""Networks that register: exchanged images give the inverse, and no update folds."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vol3d.diffusion.registration_guidance import DiffuseMorph, FSDiffReg, Guidance
from vol3d.errors import ConfigError
from vol3d.metrics.folding import is_digital_diffeomorphism
from vol3d.models.denoisers.unet import UNet
from vol3d.models.registrars.base import padded
from vol3d.models.registrars.svf import Svf
from vol3d.models.registrars.symmetric import Symmetric
from vol3d.trained.registrar_network import found_by
from vol3d.volume import Grid

CHANNELS = (8, 8)
DENOISER = UNet(channels=CHANNELS, patch=2, middle_attention=False)
SHAPE = (14, 16, 17)


def wild(net: nn.Module, size: float = 1.0) -> nn.Module:
    """The network with large weights in its last layers too, which begin as nothing."""
    for p in net.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=size / p[0].numel() ** 0.5)
    return net.eval()


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    moving, fixed = torch.rand(2, 1, 1, *SHAPE)
    return moving, fixed


@pytest.mark.parametrize(
    "guidance", [None, DiffuseMorph(model=DENOISER), FSDiffReg(model=DENOISER)]
)
@torch.inference_mode()
def test_exchanged_images_give_the_inverse(guidance: Guidance | None, pair: tuple[Tensor, Tensor]):
    network = Symmetric(channels=CHANNELS)
    net = wild(network.build(1) if guidance is None else guidance.build(network, 1))
    there, back = (found_by(net, network.multiple, *p) for p in (pair, pair[::-1]))
    assert len(there.velocities) == len(CHANNELS)
    for v, w in zip(there.velocities, back.velocities, strict=True):
        assert v.abs().max() > 0.03
        torch.testing.assert_close(v, -w, atol=1e-5, rtol=0)
    torch.testing.assert_close(there.displacement(), back.inverse(), atol=1e-4, rtol=0)
    assert there.displacement().shape == (1, 3, *SHAPE)


@torch.inference_mode()
def test_no_update_folds_whatever_the_weights(pair: tuple[Tensor, Tensor]):
    network = Symmetric(channels=(8, 8, 8))
    net = wild(network.build(1), size=20.0)
    grid = Grid(SHAPE, np.eye(4))
    found = found_by(net, network.multiple, *pair)
    for v in found.velocities:
        assert 0.2 < v.abs().max() <= network.limit
        half = v[0].double().numpy() / 2
        assert is_digital_diffeomorphism(half, Grid(half.shape[1:], np.eye(4)))
    assert is_digital_diffeomorphism(found.displacement()[0].double().numpy(), grid)


@pytest.mark.parametrize("network", [Symmetric(channels=CHANNELS), Svf(channels=CHANNELS)])
def test_all_weights_learn_and_the_beginning_is_nothing(
    network: Symmetric | Svf, pair: tuple[Tensor, Tensor]
):
    net = network.build(1)
    found = found_by(net, network.multiple, *pair)
    assert found.displacement().abs().max() < 1e-5
    found = found_by(wild(net), network.multiple, *pair)
    found.displacement().square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_guides_are_those_of_the_papers(pair: tuple[Tensor, Tensor]):
    """A training pass gives the denoising loss; the answer is an input, or weighs voxels."""
    seen = [padded(x, 4) for x in pair]
    noise, sigma = torch.randn(1, 2, *seen[0].shape[2:]), torch.tensor([0.5], dtype=torch.float64)
    for guidance in (DiffuseMorph(model=DENOISER), FSDiffReg(model=DENOISER)):
        net = wild(guidance.build(Symmetric(channels=CHANNELS), 1))
        velocities, denoising, weights = net(*seen, noise, sigma)
        (denoising + sum(v.square().mean() for v in velocities)).backward()
        assert all(p.grad is not None for p in net.parameters())
        assert (weights is None) == (guidance.kind == "diffusemorph")
    other = FSDiffReg(model=UNet(channels=(8,), patch=2, middle_attention=False))
    with pytest.raises(ConfigError, match="same grids"):
        other.build(Symmetric(channels=CHANNELS), 1)
