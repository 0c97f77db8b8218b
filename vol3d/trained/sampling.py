"""How samples are drawn: noise from seeds, what guides, and a solver that follows the noise down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vol3d.data.covariates import Covariates, Row
from vol3d.data.rng import randn, torch_rng
from vol3d.diffusion.classifier_free_guidance import Guided
from vol3d.diffusion.condition import Condition
from vol3d.diffusion.conditioning import COORDINATES, COVARIATES, NUMBERS, RATER, Given
from vol3d.diffusion.model import DiffusionNet, Sampler
from vol3d.diffusion.rescheduled import Rescheduled
from vol3d.diffusion.sampler_interface import Around, as_it_is
from vol3d.diffusion.tiles import Tiled
from vol3d.nn.precision import autocast
from vol3d.trained.autoencoder import channels_last
from vol3d.trained.target import coordinates, flagged


@dataclass(frozen=True)
class Guides:
    """Images and label maps that guide samples.

    Attributes:
        channels: of each, by name.
        scales: how hard samples follow each.
        of_samples: of each sample, by name: [K, X, Y, Z], None where it is missing.
    """

    channels: Mapping[str, int]
    scales: Mapping[str, float]
    of_samples: Sequence[Mapping[str, Tensor | None]]


def guidance_scales(
    sampler: Sampler, schema: Covariates, images: Mapping[str, float]
) -> dict[str, float]:
    """How hard samples follow each covariate and each image: its own scale, or the sampler's for all."""
    own = {**{c.name: c.guidance for c in schema.columns}, **images}
    return own if sampler.guidance is None else dict.fromkeys(own, sampler.guidance)


@torch.inference_mode()
def draw_samples(
    net: DiffusionNet,
    schema: Covariates,
    rows: list[Row],
    seeds: list[int],
    sampler: Sampler,
    shape: tuple[int, ...],
    images: Guides | None = None,
    around: Around = as_it_is,
) -> Tensor:
    """What a model draws, [B, C, X, Y, Z], each sample from its own seed.

    Args:
        net: the model.
        schema: encodes the rows.
        rows: complete covariates of each sample.
        seeds: fixes all that is random of each sample.
        sampler: solver, steps, guidance.
        shape: [C, X, Y, Z].
        images: that guide.
        around: what is put around the guided denoiser (see `vol3d.diffusion.sampler_interface`).
    """
    rngs = [torch_rng("sample", seed) for seed in seeds]
    denoiser = net.denoiser
    if tiles := net.tiles or sampler.tiles:
        denoiser = Tiled(denoiser, tiles, coarse=net.context == "coarse")
    if sampler.schedule:
        denoiser = Rescheduled(denoiser, sampler.schedule)
    levels = denoiser.schedule.levels(sampler.steps)
    device = net.device

    def draw() -> Tensor:
        return channels_last(randn(shape, rngs).to(device))

    places = torch.tensor([seed % 2**63 for seed in seeds])  # a seed may be larger than int64 holds
    own = {NUMBERS: randn((net.numbers,), rngs), RATER: places}
    full, without = conditions(net, schema, rows, sampler, shape[1:], images, own)
    x = draw() * levels.sigma[0].item()
    with autocast(device, sampler.precision):
        denoise = around(Guided(denoiser, full, without))
        return sampler.solver.sample(denoise, x, levels, draw)


def conditions(
    net: DiffusionNet,
    schema: Covariates,
    rows: list[Row],
    sampler: Sampler,
    shape: tuple[int, ...],
    images: Guides | None = None,
    own: Given | None = None,
) -> tuple[Condition, list[tuple[float, Condition]]]:
    """The full condition, and per guidance scale the condition without what has that scale.

    All of them have what is the samples' `own`: their numbers, and whose maps they are.
    """
    images = images or Guides({}, {}, [{} for _ in rows])
    scales = guidance_scales(sampler, schema, images.scales)
    place = coordinates(shape, device=net.device).expand(len(rows), -1, *shape)
    blank = torch.empty(0, *shape)

    def condition(keep: Mapping[str, bool]) -> Condition:
        encoded = [schema.encode(row, [keep[n] for n in schema.names]) for row in rows]
        given = [
            flagged({"x0": blank, **some}, images.channels, keep) for some in images.of_samples
        ]
        stacked = {n: torch.stack([g[n] for g in given]).to(net.device) for n in images.channels}
        row = torch.tensor(encoded, device=net.device)
        of_seeds = {n: t.to(net.device) for n, t in (own or {}).items()}
        given = {COVARIATES: row, COORDINATES: place, **stacked, **of_seeds}
        return net.condition(given, shape)

    groups = [
        (w, condition({n: s != w for n, s in scales.items()}))
        for w in sorted(set(scales.values()) - {1.0})
    ]
    return condition(dict.fromkeys(scales, True)), groups
