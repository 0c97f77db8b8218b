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


def test_first_width_is_even():
    with pytest.raises(ConfigError, match="channels=7 of the first level must be even"):
        UNet.parse({"channels": [7, 14], "norm_groups": 1})


def test_heads_matter_only_where_there_is_attention():
    settings = {"channels": [32, 64], "head_channels": 64}
    UNet.parse(settings)  # the middle attends, with 64 channels
    with pytest.raises(ConfigError, match="channels=32 must be a multiple of head_channels=64"):
        UNet.parse({**settings, "attention_levels": [True, False]})
    with pytest.raises(ConfigError):
        UNet.parse({**settings, "head_channels": [-8, 64]})


def test_closed_ports():
    x, c_noise = torch.randn(1, 2, 4, 4, 4), torch.ones(1)
    closed = UNet(channels=(8, 8)).build(2, 2)
    with pytest.raises(AssertionError, match="built without vector_dim"):
        closed(x, c_noise, vector=torch.ones(1, 3))
    with pytest.raises(AssertionError, match="tokens given, but token_dim=None"):
        closed(x, c_noise, tokens=torch.ones(1, 2, 3))
    with pytest.raises(AssertionError, match="tokens missing, but token_dim=3"):
        UNet(channels=(8, 8)).build(2, 2, token_dim=3)(x, c_noise)
