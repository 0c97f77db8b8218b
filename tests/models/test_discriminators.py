"""Discriminators: what they give, how small a volume may be, and that images do not mix."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from vol3d.errors import ConfigError
from vol3d.models.discriminators import MultiScale, Patch

CONFIGS = [
    Patch(channels=4, layers=2),
    Patch(channels=4, layers=1, norm="group", norm_groups=4),
    MultiScale(channels=4, layers=2, norm="group", norm_groups=2),
    MultiScale(channels=4, layers=1, scales=3),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@torch.inference_mode()
def test_features_of_every_scale_and_a_verdict_each(config: Patch):
    net, n = config.build(), config.smallest
    out = net(torch.rand(2, 1, n, n + 1, n + 5))
    assert len(out) == getattr(config, "scales", 1)
    for features in out:
        assert len(features) == config.layers + 2
        assert features[-1].shape[:2] == (2, 1)
    with pytest.raises((RuntimeError, ValueError)):
        net(torch.rand(2, 1, n - 1, n + 1, n + 5))


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@torch.inference_mode()
def test_images_do_not_mix_and_nothing_is_kept_from_a_batch(config: Patch):
    net, n = config.build().train(), config.smallest + 2
    x = torch.rand(3, 1, n, n, n)
    for whole, alone in zip(net(x), net(x[1:2]), strict=True):
        torch.testing.assert_close(whole[-1][1:2], alone[-1], rtol=1e-4, atol=1e-5)
    assert not list(net.buffers()), "no running statistics"
    norms = [m for m in net.modules() if isinstance(m, nn.InstanceNorm3d | nn.GroupNorm)]
    assert len(norms) == config.layers * getattr(config, "scales", 1)
    assert {isinstance(m, nn.GroupNorm) for m in norms} == {config.norm == "group"}


@torch.inference_mode()
def test_each_scale_sees_half_the_resolution_of_the_last():
    net = MultiScale(channels=4, layers=1, scales=3).build()
    x = torch.rand(1, 1, 25, 22, 24)
    for one, features in zip(net.nets, net(x), strict=True):
        torch.testing.assert_close(one(x)[0][-1], features[-1])
        weight = functional.conv3d(torch.ones_like(x), torch.ones(1, 1, 3, 3, 3), None, 2, 1)
        x = functional.conv3d(x, torch.ones(1, 1, 3, 3, 3), None, 2, 1) / weight
    assert not torch.equal(net.nets[0].net[0].conv.weight, net.nets[1].net[0].conv.weight)


def test_groups_fit():
    with pytest.raises(ConfigError, match="norm_groups=8 must divide 2 x channels=6"):
        MultiScale.parse({"channels": 6, "norm": "group"})
    with pytest.raises(ConfigError, match="norm"):
        Patch.parse({"norm": "batch"})
