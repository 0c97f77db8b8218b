"""Fewer products give what torch's convolution gives, in float64's eyes no worse than torch itself."""

import pytest
import torch
from torch.nn import functional
from torch.nn.grad import conv3d_weight

from vol3d.nn import winograd as module
from vol3d.nn.blocks import Conv3
from vol3d.nn.winograd import pays, winograd, winograd_weight_gradient


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("shape", [(3, 8, 6), (4, 5, 7), (3, 1, 1), (40, 3, 4)])
def test_it_is_the_convolution(shape: tuple[int, int, int], pad: int):
    x = torch.randn(2, 6, *shape)
    weight, bias = torch.randn(5, 6, 3, 3, 3), torch.randn(5)
    right = functional.conv3d(x.double(), weight.double(), bias.double(), padding=(pad, 1, 1))
    for given in (x, x.contiguous(memory_format=torch.channels_last_3d)):
        off = (winograd(given, weight, bias, pad) - right).norm() / right.norm()
        assert off < 1e-6


@pytest.mark.parametrize("shape", [(3, 8, 6), (4, 5, 7), (1, 1, 1), (40, 3, 4)])
def test_so_is_the_gradient_of_its_weight(shape: tuple[int, int, int]):
    g, x = torch.randn(1, 5, *shape), torch.randn(1, 6, shape[0] + 2, *shape[1:])
    right = conv3d_weight(x.double(), (5, 6, 3, 3, 3), g.double(), padding=(0, 1, 1))
    assert (winograd_weight_gradient(g, x) - right).norm() / right.norm() < 1e-6


def test_large_planes_are_done_in_blocks(monkeypatch: pytest.MonkeyPatch):
    x, weight, g = (
        torch.randn(1, 4, 9, 8, 6),
        torch.randn(4, 4, 3, 3, 3),
        torch.randn(1, 4, 7, 8, 6),
    )
    whole = winograd(x, weight, None, 0), winograd_weight_gradient(g, x)
    monkeypatch.setattr(module, "TILES", 3)
    monkeypatch.setattr(module, "ROOM", 16 * 4 * 4 * 3 * 4)
    assert len(list(module.blocks(torch.Size((7, 8, 6)), 4))) > 4
    parts = winograd(x, weight, None, 0), winograd_weight_gradient(g, x)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


def test_a_layer_that_is_wide_and_large_takes_it_where_no_gradient_is_wanted():
    x, layer = torch.randn(1, 256, 17, 16, 16), Conv3(256, 256, 3, padding=1)
    assert pays(x, layer.weight)
    assert not pays(x.bfloat16(), layer.weight)
    with_gradient = layer(x)
    with torch.no_grad():
        without = layer(x)
    assert not torch.equal(with_gradient, without)  # it is another way,
    assert torch.allclose(with_gradient, without, atol=1e-5)  # to the same
