"""A trained generator: covariates and a seed in, a brain out."""

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from vol3d.bundle import Bundle
from vol3d.config import did_you_mean, lay
from vol3d.data.brain import brain_in
from vol3d.data.covariates import Covariates, Row
from vol3d.data.dataset import SPACING
from vol3d.data.images import grids_of
from vol3d.data.rng import numpy_rng
from vol3d.data.visit import KINDS
from vol3d.diffusion.conditioning import Known
from vol3d.diffusion.model import Diffusion, Sampler
from vol3d.diffusion.sampler_interface import Around, as_it_is
from vol3d.errors import ConfigError, RunError
from vol3d.io.reading import understood
from vol3d.nn.cuda_graphs import Replayed
from vol3d.nn.precision import lowered, resolve
from vol3d.trained.autoencoder import TrainedAutoencoder
from vol3d.trained.sampling import Guides, draw_samples
from vol3d.trained.targets import TargetKind
from vol3d.trained.targets.latents import Latents
from vol3d.volume import Grid, Volume


class DiffusionOf(Diffusion):
    """A diffusion model of a target."""

    target: TargetKind = Latents()
    """What is drawn: latents of an autoencoder, images, or label maps."""

    @model_validator(mode="after")
    def check_target(self) -> Self:
        """What is beside a patch, what is of the whole, and what is of digits alone."""
        patch = getattr(self.target, "patch", None)
        if self.context == "coarse" and not patch:
            raise ValueError("context=coarse: is seen beside patches; give target.patch")
        digits = getattr(self.target, "low", None)
        if self.prediction.kind == "odds" and self.prediction.low != digits:
            rule = "is for label maps" if digits is None else f"has to be target.low={digits}"
            raise ValueError(f"prediction=odds with low={self.prediction.low}: {rule}")
        whole = [name for name, way in self.conditions.items() if way and way.wants_whole]
        if whole and patch:
            raise ValueError(
                f"conditions.{whole[0]}: is of a whole volume, not of its patches; set target.patch=null"
            )
        return self

    @property
    def tiles(self) -> tuple[int, int, int] | None:
        """See `Diffusion.tiles`: with a coarse context they are as large as patches."""
        patch = getattr(self.target, "patch", None)
        return patch.size if self.context == "coarse" and patch else None


class DiffusionBundle(DiffusionOf):
    """The config in a diffusion model's bundle."""

    kind: Literal["diffusion"] = "diffusion"


class TrainedGenerator:
    """Draws volumes. A sample is fixed by its seed and its covariates.

    Attributes:
        settings: what it is made of.
        schema: the covariates it knows.
        sampler: how it samples; its precision is decided.
        grid: where the voxels of its samples lie.
        target: what it draws, as settings.
        wants_coordinates: it is told where each voxel lies in the whole.
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
        self.settings = settings = bundle.settings(DiffusionBundle)
        self.sampler = self.changed(settings.sampler, sampler or {})
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
        self.codec = settings.target.codec(bundle, device, precision)
        self.scales = settings.images
        self.target = settings.target
        self.wants_coordinates = settings.wants_coordinates
        self.channels = {name: self.codec.given_channels(name) for name in self.scales}
        raters = len(self.target.label_maps)
        self.net = settings.build(Known(self.schema, self.codec.channels, self.channels, raters))
        bundle.fill(self.net)
        if precision == "bf16":
            lowered(self.net.denoiser)
        self.net.to(device, memory_format=torch.channels_last_3d).eval()
        self.net.denoiser.net = Replayed(self.net.denoiser.net)

    def changed(self, sampler: Sampler, changes: Mapping[str, Any]) -> Sampler:
        """A sampler with changes, which the model can be sampled by.

        Raises:
            ConfigError: it cannot.
        """
        out = Sampler.parse(lay(sampler.dump(), dict(changes)))
        self.settings.check_sampler(out)
        return out

    def sampling(self, changes: Mapping[str, Any]) -> Self:
        """The same model, opened once, with changes to its sampler; the precision stays.

        Raises:
            ConfigError: it cannot be sampled so.
        """
        other = copy(self)
        other.sampler = self.changed(self.sampler, changes)
        return other

    @property
    def autoencoder(self) -> TrainedAutoencoder | None:
        """That of a model that draws latents."""
        return getattr(self.codec, "autoencoder", None)

    @property
    def kind(self) -> str:
        """The kind of image that it draws, as the last word of a BIDS name."""
        if self.codec.is_labels:
            return "dseg"
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

    def generate(
        self,
        rows: list[Row],
        seeds: list[int],
        images: Sequence[Mapping[str, Volume]] | None = None,
        around: Around = as_it_is,
    ) -> Tensor:
        """Brains [B, 1, X, Y, Z] in [0, 1], 0 around them, for complete rows of one grid; in one batch.

        Args:
            rows: complete rows of covariates.
            seeds: of each sample.
            images: of each sample the images and label maps that guide it, by name; what is not there
                is unknown.
            around: what is put around the denoiser, such as `diffusion.inpainting`.

        Returns:
            Images; or labels, of a model that draws label maps.

        Raises:
            ConfigError: an image that does not guide this model, or lies on another grid.
            RunError: a voxel is not a finite number.
        """
        grid = self.grid_of(rows[0])
        given = [self.on_grid(some, grid) for some in images or [{} for _ in rows]]
        return self.volumes(self.draw(rows, seeds, given, grid, around), grid)

    def volumes(self, x0: Tensor, grid: Grid) -> Tensor:
        """Of what was drawn, [B, C, x, y, z], the volumes [B, 1, X, Y, Z]; see `generate`."""
        x = self.codec.decode(x0, grid.shape)
        return x if self.codec.brain_level is None else torch.stack([*map(self.brain_of, x)])

    def draw(
        self,
        rows: list[Row],
        seeds: list[int],
        images: Sequence[Mapping[str, Tensor]],
        grid: Grid,
        around: Around = as_it_is,
    ) -> Tensor:
        """What is drawn, [B, C, x, y, z], before it becomes volumes; see `generate`.

        Args:
            rows: see `generate`.
            seeds: likewise.
            images: of each sample what guides it, [1, X, Y, Z] on `grid`.
            grid: any that suits the network.
            around: see `generate`.
        """
        given = [
            {name: self.codec.encode_given(name, x) for name, x in some.items()} for some in images
        ]
        x0 = draw_samples(
            self.net,
            self.schema,
            rows,
            seeds,
            self.sampler,
            self.codec.shape_on(grid),
            images=Guides(self.channels, self.scales, given),
            around=around,
        )
        for one, seed in zip(x0, seeds, strict=True):
            if not one.isfinite().all():
                raise RunError(
                    f"seed {seed}: the sample is not finite; try less guidance, or "
                    f"sampler.precision=fp32"
                )
        return x0

    def on_grid(self, images: Mapping[str, Volume], grid: Grid) -> dict[str, Tensor]:
        """Images of a visit that guide, [1, X, Y, Z] in RAS+."""
        out = {}
        for name, volume in images.items():
            if name not in self.channels:
                raise ConfigError(
                    f"'{name}' does not guide this model.{did_you_mean(name, list(self.channels))} "
                    f"What does: {', '.join(self.channels) or 'no image'}."
                )
            volume = volume.reorient("RAS")
            if not volume.grid.matches(grid):
                raise ConfigError(
                    f"'{name}' lies on a grid of {volume.grid}, the sample on {grid}; resample it"
                )
            out[name] = torch.from_numpy(volume.data)[None]
        return out

    def brain_of(self, x: Tensor) -> Tensor:
        """A decoded image [1, X, Y, Z] with 0 for the haze around the brain."""
        brain = brain_in(Volume(x[0].cpu().numpy(), np.eye(4)), self.codec.brain_level)
        return x * torch.from_numpy(brain.data).to(x.device)
