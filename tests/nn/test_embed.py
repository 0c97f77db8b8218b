"""The sinusoidal embedding is MONAI's, and tells noise levels apart."""

import torch
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding

from vol3d.nn.embed import sinusoidal


def test_equal_to_monai():
    t = torch.tensor([0.0, 3.0, 417.25, 999.0])
    for dim in (32, 29):
        assert torch.equal(sinusoidal(t, dim), get_timestep_embedding(t, dim))


def test_near_levels_differ():
    e = sinusoidal(torch.tensor([10.0, 10.5, 11.0]), 64)
    assert torch.pdist(e).min() > 0.1
