"""Settings that cannot work are refused early; a network refuses what has no port."""

import pytest
import torch

from vol3d.errors import ConfigError
from vol3d.models.autoencoders.kl import AutoencoderKL
from vol3d.models.autoencoders.vq import AutoencoderVQ
from vol3d.models.denoisers.unet import UNet


@pytest.mark.parametrize("config", [AutoencoderKL, AutoencoderVQ, UNet])
def test_a_network_has_levels(config: type):
    with pytest.raises(ConfigError, match="at least one level"):
        config.parse({"channels": []})
    with pytest.raises(ConfigError, match="must have one entry per level"):
        config.parse({"num_res_blocks": []})


def test_heads_matter_only_where_there_is_attention():
    settings = {"channels": [32, 64], "head_channels": 64}
    UNet.parse(settings)  # the middle attends, with 64 channels
    with pytest.raises(ConfigError, match="channels=32 must be a multiple of head_channels=64"):
        UNet.parse({**settings, "attention_levels": [True, False]})
    with pytest.raises(ConfigError):
        UNet.parse({**settings, "head_channels": [-8, 64]})
    UNet.parse({"channels": [32, 48], "head_channels": 64, "middle_attention": False})


def test_with_added_skips_attention_going_up_has_the_width_of_the_level_above():
    settings = {"channels": [32, 64], "head_channels": 64, "attention_levels": [False, True]}
    UNet.parse(settings)
    with pytest.raises(ConfigError, match="channels=32 must be a multiple of head_channels=64"):
        UNet.parse({**settings, "skips": "add"})


def test_tokens_need_attention():
    with pytest.raises(ConfigError, match="nothing attends to tokens"):
        UNet(channels=(8, 8), middle_attention=False).build(2, 2, token_dim=3)


def test_groups_matter_only_to_the_group_norm():
    UNet.parse({"channels": [6, 10], "norm": "channel"})


def test_closed_ports():
    x, c_noise = torch.randn(1, 2, 4, 4, 4), torch.ones(1)
    closed = UNet(channels=(8, 8)).build(2, 2)
    with pytest.raises(AssertionError, match="built without vector_dim"):
        closed(x, c_noise, vector=torch.ones(1, 3))
    with pytest.raises(AssertionError, match="tokens given, but token_dim=None"):
        closed(x, c_noise, tokens=torch.ones(1, 2, 3))
    with pytest.raises(AssertionError, match="tokens missing, but token_dim=3"):
        UNet(channels=(8, 8)).build(2, 2, token_dim=3)(x, c_noise)
