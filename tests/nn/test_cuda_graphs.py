"""A call that is played back gives what the call gives."""

import pytest
import torch
from torch import Tensor, nn

from vol3d.models.denoisers.unet import UNet
from vol3d.nn.cuda_graphs import Replayed
from vol3d.nn.precision import autocast


def unet(device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    net = UNet(channels=(8, 16), attention_levels=(False, True), norm_groups=4).build(3, 3)
    for p in net.parameters():
        nn.init.normal_(p, std=0.1)
    return net.to(device, memory_format=torch.channels_last_3d).eval()


def latents(device: torch.device, *shape: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x, t = torch.randn(shape, generator=rng), torch.rand(shape[0], generator=rng)
    return x.to(device, memory_format=torch.channels_last_3d), t.to(device)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_bit_for_bit(device: torch.device, precision: str):
    """Whatever came between, in sizes that take turns; and memory that is the caller's own."""
    net = unet(device)
    played = Replayed(net)
    shapes = [(1, 3, 6, 8, 6), (2, 3, 4, 6, 4)]
    kept = []
    with torch.inference_mode(), autocast(device, precision):
        for seed in range(4):
            for shape in shapes:
                given = latents(device, *shape, seed=seed)
                kept.append((played(*given), net(*given)))
    for mine, theirs in kept:
        assert torch.equal(mine, theirs)
    on_gpu = device.type == "cuda"
    assert [bool(r) for r in played.calls.values()] == ([True] * len(shapes) if on_gpu else [])


@pytest.mark.gpu
def test_gradients_are_not_played_back(device: torch.device):
    net = unet(device)
    played, given = Replayed(net), latents(device, 1, 3, 6, 8, 6, seed=0)
    for _ in range(3):
        net.zero_grad()
        played(*given).sum().backward()
    assert net.conv_in.weight.grad.abs().sum() > 0
    assert not played.calls


@pytest.mark.gpu
def test_what_cannot_be_recorded_goes_as_usual(device: torch.device):
    """A call that asks the GPU for a number in between."""

    def f(x: Tensor) -> Tensor:
        return x * x.sum().item()

    played, x = Replayed(f), torch.arange(4.0, device=device)
    with torch.inference_mode():
        for _ in range(3):
            assert torch.equal(played(x), f(x))
