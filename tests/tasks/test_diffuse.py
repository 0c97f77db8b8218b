"""What the loss of a diffusion model is of: patches by weight, and one noise for patch and whole."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tests.conftest import LABEL_DIFFUSION
from tests.tasks.test_job import job_of
from vol3d.data.patches import Place
from vol3d.data.rng import randn, torch_rng
from vol3d.diffusion.conditioning import COARSE, COARSE_NOISE, COORDINATES, COVARIATES
from vol3d.diffusion.tiles import coarse_look
from vol3d.errors import ConfigError, DataError
from vol3d.trained.target import START, WEIGHT, WHOLE

ENGINE = SimpleNamespace(device=torch.device("cpu"), autocast=nullcontext)
PATCHES = [
    *(w for w in LABEL_DIFFUSION if not w.startswith("task.target")),
    *("data.kind=bids", "task.context=coarse"),
]


def patches(size: int) -> list[str]:
    structures = "{brain_ml: [2, 3]}"
    return [
        *PATCHES,
        f"task.target={{kind: labels, structures: {structures}, patch: [{size}, {size}, {size}]}}",
    ]


def rngs() -> list[torch.Generator]:
    return [torch_rng("test", i) for i in range(2)]


def seen(job, drawn: dict[str, Tensor]) -> tuple[dict[str, Tensor], list]:
    """The terms of the loss, and what the network was given: x0, noise, sigma, the rest."""
    passed = []

    def net(*args):
        passed.append(args)
        return {"denoising": torch.tensor([2.0, 5.0])}

    return job.terms(ENGINE, net, drawn, rngs()), passed[0]


def drawn_of(whole: Tensor, size: int, start: list[list[int]], weight: list[float]):
    places = [Place(tuple(at), (size, size, size)) for at in start]
    return {
        "x0": torch.stack([place.of(w) for place, w in zip(places, whole, strict=True)]),
        WHOLE: whole,
        START: torch.tensor(start),
        WEIGHT: torch.tensor(weight),
        "sigma": torch.tensor([0.5, 0.5]),
        COVARIATES: torch.zeros(2, 0),
        COORDINATES: torch.zeros(2, 3, size, size, size),
    }


def test_a_patch_counts_by_its_weight():
    whole, start = torch.randn(2, 2, 8, 8, 8), [[0, 1, 2], [4, 4, 4]]
    terms, _ = seen(job_of(*patches(4)), drawn_of(whole, 4, start, [1.0, 3.0]))
    assert terms["denoising"].tolist() == [2.0, 15.0]


def test_the_noise_of_a_patch_is_that_of_the_whole_beside_it():
    whole, start = torch.randn(2, 2, 8, 8, 8), [[0, 1, 2], [4, 4, 4]]
    drawn = drawn_of(whole, 4, start, [1.0, 1.0])
    _, (x0, noise, _, given) = seen(job_of(*patches(4)), drawn)
    everywhere = randn((2, 8, 8, 8), rngs())
    assert torch.equal(x0, drawn["x0"])
    assert torch.equal(noise[0], everywhere[0, :, 0:4, 1:5, 2:6])
    assert torch.equal(noise[1], everywhere[1, :, 4:8, 4:8, 4:8])
    assert torch.equal(given[COARSE], coarse_look(whole, (4, 4, 4)))
    assert torch.equal(given[COARSE_NOISE], coarse_look(everywhere, (4, 4, 4)))


@pytest.mark.parametrize("way", ["addition", "ambiguity"])
def test_what_is_of_a_whole_volume_goes_with_no_patches(way: str):
    with pytest.raises(ConfigError, match=r"conditions.way: is of a whole volume"):
        job_of(*patches(4), f"task.conditions.way.kind={way}")


def test_a_scan_smaller_than_a_patch_has_no_coarse_look():
    with pytest.raises(DataError, match="take smaller patches"):
        job_of(*patches(24))
