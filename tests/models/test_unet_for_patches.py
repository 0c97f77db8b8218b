"""The U-Net as PatchDDM has it, and on large images slab by slab."""

from itertools import product

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from tests.models.monai_networks import apart, randomise
from vol3d.models.denoisers import unet
from vol3d.models.denoisers.unet import UNet, UNetNet
from vol3d.nn.blocks import merge
from vol3d.nn.slab_conv import SLAB
from vol3d.nn.slab_volume import Slabbed

PATCHDDM = {
    "channels": (29, 87, 116, 116, 116, 116, 116),
    "num_res_blocks": 2,
    "norm_groups": 29,
    "modulation": "add",
    "middle_attention": False,
}
"""Of Bieder et al., MIDL 2023: base 29, multipliers 1, 3, 4, 4, 4, 4, 4."""
SHAPES = [(9, 11, 7), (10, 8, 6)]


@pytest.mark.parametrize(("skips", "parameters"), [("add", 24260299), ("concat", 32331927)])
def test_weights_of_patchddm(skips: str, parameters: int):
    """As many as the authors' code has, of 4 contrasts, 3 coordinates and a mask."""
    net = UNet(**PATCHDDM, skips=skips).build(1, 1, extra_channels=7)
    assert sum(p.numel() for p in net.parameters()) == parameters


@torch.inference_mode()
def test_added_skips_by_hand():
    """Two levels of different width, in the order in which features join."""
    config = UNet(channels=(4, 8), norm_groups=2, skips="add", middle_attention=False)
    net, x = randomise(config.build(2, 3)), torch.randn(1, 2, 5, 6, 4)
    emb = net.time_embed(unet.sinusoidal(torch.ones(1), 4))
    (fine, coarse), (up_coarse, up_fine) = net.down_blocks, net.up_blocks
    a = net.conv_in(x)
    b = fine["resnets"][0](a, emb)
    c = fine["downsampler"](b)
    d = coarse["resnets"][0](c, emb)
    h = net.middle_block["resnet_2"](net.middle_block["resnet_1"](d, emb), emb)
    h = up_coarse["resnets"][0]((h + d) / 2, emb)
    h = up_coarse["resnets"][1]((h + c) / 2, emb)
    h = up_coarse["upsampler"](h, emb, b)
    assert [t.shape[1] for t in (a, b, c, d, h)] == [4, 4, 4, 8, 4]
    h = up_fine["resnets"][0]((h + b) / 2, emb)
    h = up_fine["resnets"][1]((h + a) / 2, emb)
    expected = net.conv_out(nnf.silu(net.norm_out(h)))
    torch.testing.assert_close(net(x, torch.ones(1)), expected)


def test_weights_have_the_names_that_they_had():
    """So that what was trained before still loads: the settings that are new change no default."""
    names = set(UNet(channels=(8, 8)).build(2, 2).state_dict())
    norms = {
        "norm_out.weight",
        "middle_block.attention.norm.bias",
        "up_blocks.0.resnets.0.norm1.weight",
    }
    assert norms <= names
    assert names == set(UNet(channels=(8, 8), norm="channel").build(2, 2).state_dict())


def both_ways(net: UNetNet, x: Tensor, monkeypatch, **ports: Tensor) -> tuple[Tensor, Tensor]:
    """The output of one call as usual, and slab by slab."""
    c_noise = torch.linspace(0.1, 0.7, len(x), device=x.device)
    out = []
    with torch.inference_mode():
        for large in (10**9, 0):
            monkeypatch.setattr(unet, "LARGE", large)
            out.append(net(x, c_noise, **ports))
    return tuple(out)


@pytest.mark.parametrize("slab", [1000, SLAB["cpu"]])
@pytest.mark.parametrize("norm", ["group", "channel"])
@pytest.mark.parametrize("modulation", ["adaptive", "add"])
@pytest.mark.parametrize("skips", ["concat", "add"])
def test_slab_by_slab_is_the_same(skips, modulation, norm, slab, monkeypatch):
    """All ports open, in odd shapes, a batch; and what is given stays as it was."""
    monkeypatch.setitem(SLAB, "cpu", slab)
    for shape, updown in product(SHAPES, (False, True) if slab == 1000 else (False,)):
        config = UNet(
            channels=(4, 8, 12), num_res_blocks=2, norm_groups=2, attention_levels=(False, True, False),
            skips=skips, modulation=modulation, norm=norm, resblock_updown=updown,
        )  # fmt: skip
        ports = {"vector_dim": 3, "token_dim": 5, "extra_channels": 3, "addition_channels": 2}
        net, rng = randomise(config.build(2, 3, **ports)), torch.Generator().manual_seed(1)
        x, channels, addition = (torch.randn(2, n, *shape, generator=rng) for n in (2, 3, 2))
        vector, tokens = (torch.randn(2, *n, generator=rng) for n in ((3,), (4, 5)))
        given = {"vector": vector, "tokens": tokens, "channels": channels, "addition": addition}
        before = [t.clone() for t in (x, *given.values())]
        whole, tiled = both_ways(net, x, monkeypatch, **given)
        assert apart(tiled, whole) < 1e-5, (shape, updown)
        assert all(map(torch.equal, (x, *given.values()), before))


def test_added_skips_keep_the_layout_in_which_a_group_norm_is_exact():
    """PyTorch's on a CPU is not where the channels of a voxel lie side by side, as what goes up does."""
    skip = 1.5 + torch.randn(1, 4, 64, 64, 64, generator=torch.Generator().manual_seed(1))
    h = skip.clone(memory_format=torch.channels_last_3d)
    exact = nnf.group_norm(skip.double(), 1)
    assert apart(nnf.group_norm(merge(h, skip, is_added=True), 1), exact) < 1e-6
    assert apart(nnf.group_norm(h, 1), exact) > 1e-5


@pytest.mark.gpu
@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("skips", ["concat", "add"])
def test_slab_by_slab_on_a_gpu(skips, device, monkeypatch):
    monkeypatch.setitem(SLAB, device.type, 20000)
    net = randomise(UNet(channels=(8, 16), norm_groups=4, skips=skips).build(1, 1)).to(device)
    whole, tiled = both_ways(net, torch.randn(1, 1, 12, 9, 10).to(device), monkeypatch)
    assert apart(tiled, whole) < 1e-4


def test_slab_by_slab_in_float64(monkeypatch):
    """Exact, not near: the distance falls with the precision."""
    monkeypatch.setitem(SLAB, "cpu", 4000)
    monkeypatch.setattr(
        unet, "sinusoidal", lambda t, dim: torch.outer(t.double(), torch.ones(dim).double())
    )
    net = randomise(UNet(channels=(4, 8, 12), norm_groups=2).build(2, 2)).double()
    whole, tiled = both_ways(net, torch.randn(1, 2, 13, 9, 11).double(), monkeypatch)
    assert apart(tiled, whole) < 1e-13


def test_only_large_images_without_gradients_go_slab_by_slab(monkeypatch):
    net, x = UNet(channels=(4, 8), norm_groups=2).build(1, 1), torch.randn(1, 1, 6, 6, 6)
    monkeypatch.setattr(unet, "LARGE", 6**3)
    with torch.no_grad():
        assert isinstance(net.first(x, None), Slabbed)
        assert not isinstance(net.first(x[..., :5], None), Slabbed)
        assert not isinstance(net.first(torch.randn(1, 1, 36, 6, 1), None), Slabbed)  # a slice
    net(x, torch.ones(1)).sum().backward()
    assert net.conv_in.weight.grad is not None


@torch.inference_mode()
def test_what_the_channel_norm_does_depends_on_no_extent():
    """In a patch an inner voxel is what it is in the whole; with the group norm it is not."""
    x = torch.randn(1, 2, 32, 20, 20, generator=torch.Generator().manual_seed(2))
    near = {}
    for norm in ("channel", "group"):
        config = UNet(channels=(4, 8), norm_groups=2, norm=norm, middle_attention=False)
        net = randomise(config.build(2, 2))
        whole, patch = net(x, torch.ones(1)), net(x[:, :, 4:], torch.ones(1))
        near[norm] = apart(patch[:, :, -6:], whole[:, :, -6:])  # the patch's end is the whole's
    assert near["channel"] < 1e-6
    assert near["group"] > 1e-3
