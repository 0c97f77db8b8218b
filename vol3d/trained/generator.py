"""A trained generator: covariates and a seed in, a brain out."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vol3d.bundle import Bundle
from vol3d.config import lay
from vol3d.data.brain import brain_in
from vol3d.data.covariates import Covariates, Row
from vol3d.data.dataset import SPACING
from vol3d.data.images import grids_of
from vol3d.data.rng import numpy_rng, randn, torch_rng
from vol3d.data.visit import KINDS
from vol3d.diffusion.condition import Condition
from vol3d.diffusion.guidance import Guided
from vol3d.diffusion.model import Diffusion, Sampler
from vol3d.diffusion.rescheduled import Rescheduled
from vol3d.errors import ConfigError, RunError
from vol3d.io.reading import understood
from vol3d.nn.precision import autocast, lowered, resolve
from vol3d.nn.replay import Replayed
from vol3d.trained.autoencoder import TrainedAutoencoder, channels_last
from vol3d.volume import Grid, Volume


class DiffusionBundle(Diffusion):
    """The config in a diffusion model's bundle."""

    kind: Literal["diffusion"] = "diffusion"


class TrainedGenerator:
    """Draws volumes. A sample is fixed by its seed and its covariates.

    Attributes:
        schema: the covariates it knows.
        sampler: how it samples; its precision is decided.
        grid: where the voxels of its samples lie.
        unfinished: how far its training was, where it had not finished; else empty.
    """

    def __init__(
        self,
        path: Path | str,
        device: torch.device | str = "cpu",
        sampler: dict[str, Any] | None = None,
    ) -> None:
        """Open a bundle.

        Args:
            path: the bundle, or the run that made it.
            device: where it runs.
            sampler: changes to its sampler.

        Raises:
            ConfigError: it is no diffusion model, or cannot be sampled so.
        """
        bundle = Bundle(path, "diffusion")
        self.path, self.checksum = bundle.path, bundle.checksum
        settings = bundle.settings(DiffusionBundle)
        self.sampler = Sampler.parse(lay(settings.sampler.dump(), sampler or {}))
        settings.check_sampler(self.sampler)
        precision = resolve(self.sampler.precision, torch.device(device))
        self.sampler = self.sampler.model_copy(update={"precision": precision})
        with understood(self.path / "covariates.json"):
            self.schema = Covariates.parse(bundle.document("covariates"))
        self.fingerprint: dict = bundle.fingerprint()
        trained = bundle.documents.get("training", {})
        self.unfinished = (
            [f"the training had not finished: {trained.get('images')} of {trained['of']} images"]
            if "of" in trained
            else []
        )
        self.autoencoder = TrainedAutoencoder(bundle.path / "autoencoder", device, precision)
        with understood(self.path / "fingerprint.json"):
            self.shift, self.scale = (
                torch.tensor(self.fingerprint["latents"][k], device=device).view(1, -1, 1, 1, 1)
                for k in ("shift", "scale")
            )
        self.net = settings.build(self.autoencoder.z_channels, self.schema)
        bundle.fill(self.net)
        if precision == "bf16":
            lowered(self.net.denoiser)
        self.net.to(device, memory_format=torch.channels_last_3d).eval()
        self.net.denoiser.net = Replayed(self.net.denoiser.net)

    @property
    def kind(self) -> str:
        """The kind of image that it draws, as the last word of a BIDS name."""
        told = self.fingerprint.get("kind")
        return told if told in KINDS else "T1w"

    @property
    def grid(self) -> Grid:
        """The grid of the scans it was trained on; the finest of several."""
        return self.grids[0]

    @property
    def grids(self) -> list[Grid]:
        """All grids that it was trained on."""
        return grids_of(self.fingerprint)

    def grid_of(self, row: Row) -> Grid:
        """The grid of a sample: where the model knows several, that of the spacing asked for."""
        spacing = row.get(SPACING) if SPACING in self.schema.names else None
        if spacing is None:
            return self.grid
        known = (g for g in self.grids if np.allclose(g.spacing, spacing, rtol=1e-3))
        return next(known, None) or self.grid.at(float(spacing))

    def complete(self, asked: Row, seed: int) -> Row:
        """Fill in what was not asked for, from the sample's seed (see `Covariates.complete`).

        Where the model knows several resolutions, the finest one if none is asked for.

        Raises:
            ConfigError: a spacing that no voxels can have.
        """
        if SPACING in self.schema.names:
            wanted = asked.get(SPACING)
            asked = {**asked, SPACING: self.grid.spacing[0] if wanted is None else wanted}
            if asked[SPACING] <= 0:
                raise ConfigError(f"{SPACING}={asked[SPACING]:g}: voxels are larger than 0 mm")
        return self.schema.complete(asked, numpy_rng("covariates", seed))

    def generate(self, rows: list[Row], seeds: list[int]) -> Tensor:
        """Brains [B, 1, X, Y, Z] in [0, 1], 0 around them, for complete rows of one grid; in one batch.

        Raises:
            RunError: a voxel is not a finite number.
        """
        grid = self.grid_of(rows[0])
        z = sample_latents(
            self.net,
            self.schema,
            rows,
            seeds,
            self.sampler,
            (self.autoencoder.z_channels, *grid.coarser(self.autoencoder.downsample).shape),
        )
        x = self.autoencoder.decode(z * self.scale + self.shift, grid.shape)
        return torch.stack([self.brain_of(v[0], s) for v, s in zip(x, seeds, strict=True)])

    def brain_of(self, x: Tensor, seed: int) -> Tensor:
        """A decoded image [X, Y, Z] as [1, X, Y, Z], with 0 for the haze around the brain."""
        if not x.isfinite().all():
            raise RunError(
                f"seed {seed}: the sample is not finite; try less guidance, or sampler.precision=fp32"
            )
        brain = brain_in(Volume(x.cpu().numpy(), np.eye(4)), self.autoencoder.brain_level)
        return (x * torch.from_numpy(brain.data).to(x.device))[None]


@torch.inference_mode()
def sample_latents(
    net,
    schema: Covariates,
    rows: list[Row],
    seeds: list[int],
    sampler: Sampler,
    shape: tuple[int, ...],
) -> Tensor:
    """Standardised latents [B, C, x, y, z] for complete rows, each from its own seed.

    Args:
        net: a LatentDiffusion.
        schema: encodes the rows.
        rows: covariates of each sample.
        seeds: fixes the noise of each sample.
        sampler: solver, steps, guidance.
        shape: [C, x, y, z].
    """
    rngs = [torch_rng("sample", seed) for seed in seeds]
    denoiser = Rescheduled(net.denoiser, sampler.schedule) if sampler.schedule else net.denoiser
    levels = denoiser.schedule.levels(sampler.steps)
    device = net.device

    def draw() -> Tensor:
        return channels_last(randn(shape, rngs).to(device))

    full, without = conditions(net, schema, rows, sampler, shape[1:])
    x = draw() * levels.sigma[0].item()
    with autocast(device, sampler.precision):
        return sampler.solver.sample(Guided(denoiser, full, without), x, levels, draw)


def conditions(net, schema: Covariates, rows: list[Row], sampler: Sampler, shape: tuple[int, ...]):
    """The full condition, and per guidance scale the condition without its covariates."""

    def told(keep: list[bool] | None = None) -> Condition:
        rows_of = [schema.encode(row, keep) for row in rows]
        return net.condition(torch.tensor(rows_of, device=net.device), shape)

    scales = [c.guidance if sampler.guidance is None else sampler.guidance for c in schema.columns]
    groups = [(w, told([s != w for s in scales])) for w in sorted(set(scales) - {1.0})]
    return told(), groups
