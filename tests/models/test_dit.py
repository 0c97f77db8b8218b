"""The diffusion transformer: its blocks against torch's own encoder layer, and its ports."""

import pytest
import torch
from torch import nn

from vol3d.errors import ConfigError
from vol3d.models.denoisers.dit import DiT, DiTBlock
from vol3d.nn.embed import positions, sinusoidal

SMALL = DiT(patch=2, width=24, depth=2, head_channels=12)


def shaken(net):
    """Random weights everywhere, also where training starts from zero."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=rng) * 0.2)
    return net.eval()


def test_block_is_torch_s_encoder_layer_where_nothing_is_steered():
    """With shift and scale 0 and gate 1 it is a pre-norm encoder layer, weight for weight."""
    block = shaken(DiTBlock(SMALL, None))
    theirs = nn.TransformerEncoderLayer(
        24, 2, 96, dropout=0, activation=nn.GELU(), norm_first=True, batch_first=True,
        layer_norm_eps=1e-6,
    ).eval()  # fmt: skip
    a = block.attn
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(
            torch.cat([a.to_q.weight, a.to_k.weight, a.to_v.weight])
        )
        theirs.self_attn.in_proj_bias.copy_(torch.cat([a.to_q.bias, a.to_k.bias, a.to_v.bias]))
        theirs.self_attn.out_proj.load_state_dict(a.out_proj.state_dict())
        theirs.linear1.load_state_dict(block.mlp[0].state_dict())
        theirs.linear2.load_state_dict(block.mlp[2].state_dict())
        block.steer.weight.zero_()
        block.steer.bias.copy_(torch.tensor([0.0, 0, 1, 0, 0, 1]).repeat_interleave(24))
    x = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(x, torch.randn(2, 24), None), theirs(x), rtol=1e-5, atol=1e-5)


def test_begins_as_nothing_and_every_port_tells():
    net = SMALL.build(2, 3, vector_dim=4, token_dim=5, extra_channels=1, addition_channels=2)
    rng = torch.Generator().manual_seed(0)
    inputs = {
        "x": torch.randn(2, 2, 5, 6, 4, generator=rng),
        "c_noise": torch.tensor([10.0, 700.0]),
        "vector": torch.randn(2, 4, generator=rng),
        "tokens": torch.randn(2, 3, 5, generator=rng),
        "channels": torch.randn(2, 1, 5, 6, 4, generator=rng),
        "addition": torch.randn(2, 2, 5, 6, 4, generator=rng),
    }
    assert torch.equal(net(**inputs), torch.zeros(2, 3, 5, 6, 4))
    shaken(net)
    before = net(**inputs)
    assert before.shape == (2, 3, 5, 6, 4)
    for name, value in inputs.items():
        changed = net(**{**inputs, name: value * 0.5})
        assert not torch.allclose(changed, before, atol=1e-4), name


def test_images_do_not_mix():
    net = shaken(SMALL.build(2, 2))
    x, c = torch.randn(3, 2, 4, 4, 6), torch.tensor([1.0, 100.0, 900.0])
    torch.testing.assert_close(net(x, c)[1:2], net(x[1:2], c[1:2]), rtol=1e-4, atol=1e-5)


def test_checkpointing_changes_no_gradient():
    x, c = torch.randn(1, 2, 4, 4, 4), torch.tensor([5.0])

    def gradients(checkpointing):
        net = shaken(SMALL.model_copy(update={"checkpointing": checkpointing}).build(2, 2))
        net(x, c).square().sum().backward()
        return [p.grad for p in net.parameters()]

    for a, b in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(a, b)


def test_positions_are_a_third_of_the_waves_an_axis():
    p = positions((2, 3, 4), 12, torch.device("cpu"))
    assert p.shape == (24, 12)
    at = (1 * 3 + 2) * 4 + 3  # voxel (1, 2, 3) of X, Y, Z
    expected = torch.cat([sinusoidal(torch.tensor([float(i)]), 4)[0] for i in (1, 2, 3)])
    torch.testing.assert_close(p[at], expected)
    assert len(p.unique(dim=0)) == 24


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"width": 40}, "multiple of head_channels"), ({"width": 64}, "multiple of 6")],
)
def test_widths_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        DiT.parse(settings)
