"""Tiles: they cover the whole, blend to it, and see what the network saw beside patches."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from tests.conftest import verb
from vol3d.diffusion.condition import Condition
from vol3d.diffusion.denoiser import Denoiser
from vol3d.diffusion.prediction import FlowVelocity
from vol3d.diffusion.schedules.flow import Flow
from vol3d.diffusion.tiles import Tiled, coarse_look, starts
from vol3d.errors import ConfigError, DataError


class Pointwise(nn.Module):
    """Sees each voxel by itself, so tiles of any size give what the whole gives."""

    def forward(self, x, c_noise, vector=None, tokens=None, channels=None, addition=None):
        return 2 * x + c_noise.view(-1, 1, 1, 1, 1) + channels.sum(1, keepdim=True)


def test_tiles_cover_an_axis_and_overlap():
    assert starts(40, 20) == [0, 10, 20]
    assert starts(20, 20) == starts(5, 5) == [0]
    for n, size in ((41, 20), (97, 32), (33, 32)):
        at = starts(n, size)
        assert (at[0], at[-1]) == (0, n - size)
        assert all(b - a <= 0.75 * size + 1 for a, b in pairwise(at))


@pytest.mark.parametrize("coarse", [False, True])
def test_blended_tiles_are_the_whole_of_a_pointwise_network(coarse: bool):
    denoiser = Denoiser(Pointwise(), FlowVelocity(), Flow())
    rng = torch.Generator().manual_seed(0)
    x, place = (torch.randn(2, c, 12, 9, 7, generator=rng) for c in (1, 3))
    sigma, cond = torch.tensor(0.4, dtype=torch.float64), Condition(channels=place)
    tiled = Tiled(denoiser, (8, 9, 4), coarse=coarse)(x, sigma, cond)
    whole = denoiser(x, sigma, cond)
    if coarse:  # the look is the same in every tile, so a constant image is known in closed form
        x = torch.full_like(x, 0.7)
        tiled = Tiled(denoiser, (8, 9, 4), coarse=True)(x, sigma, cond)
        look = Condition(channels=torch.cat([place, denoiser.seen(x, sigma)], 1))
        whole = denoiser(x, sigma, look)
    assert torch.allclose(tiled, whole, atol=1e-5)


def test_a_whole_that_is_smaller_than_a_tile():
    """It is the tile; but with a coarse look, which training never had of so little, it is refused."""
    denoiser = Denoiser(Pointwise(), FlowVelocity(), Flow())
    x, sigma = torch.randn(1, 1, 12, 9, 7), torch.tensor(0.4, dtype=torch.float64)
    cond = Condition(channels=torch.zeros(1, 1, 12, 9, 7))
    tiled = Tiled(denoiser, (8, 20, 4), coarse=False)(x, sigma, cond)
    assert torch.allclose(tiled, denoiser(x, sigma, cond), atol=1e-5)
    with pytest.raises(DataError, match=r"\(12, 9, 7\) voxels is smaller than the patches"):
        Tiled(denoiser, (8, 20, 4), coarse=True)(x, sigma, cond)


def test_the_coarse_look_is_linear_and_shows_the_whole():
    x = torch.arange(4.0 * 6 * 2).reshape(1, 1, 4, 6, 2)
    look = coarse_look(x, (2, 3, 1))
    assert look.shape == (1, 1, 2, 3, 1)
    assert look[0, 0, 0, 0, 0] == x[0, 0, :2, :2].mean()


def test_a_generator_of_patches_with_a_coarse_context(tmp_path):
    cohort = verb("sample-cohort", str(tmp_path / "cohort"), "n=3", "spacing=4")
    words = [
        *(f"run={tmp_path / 'run'}", "data.kind=bids", f"data.path={cohort}", "task.kind=diffuse"),
        "task.model={kind: unet, channels: [8, 16], norm_groups: 4}",
        *("task.context=coarse", "batch=2", "total_nimg=2", "task.sampler.steps=1", "device=cpu"),
        "task.conditions={vector: null, place: {kind: coordinates}}",
    ]
    with pytest.raises(ConfigError, match="seen beside patches"):
        verb("train", *words, "task.target=images")
    verb("train", *words, "task.target={kind: images, patch: {size: [12, 14, 10], centre: 0.5}}")
    with pytest.raises(ConfigError, match="tiles are as large as the patches"):
        verb("generate", str(tmp_path / "run"), str(tmp_path / "out"), "sampler.tiles=[8,8,8]")
    out = verb("generate", str(tmp_path / "run"), str(tmp_path / "out"), "n=1")
    assert len(list(out.glob("sub-*/anat/*_T1w.nii.gz"))) == 1
