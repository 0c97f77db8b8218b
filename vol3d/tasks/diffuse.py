"""The diffusion model's training: learn to remove noise from latents, told who the person is."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from vol3d.config import without_nulls
from vol3d.data.columns import Number, Wanted
from vol3d.data.covariates import Covariates, refuse_unknown
from vol3d.data.dataset import SPACING
from vol3d.data.fake import FakeLatents
from vol3d.data.latents import LatentImages, Latents
from vol3d.data.rng import randn, torch_rng
from vol3d.data.slices import montage
from vol3d.data.survey import few_people
from vol3d.data.visit import Visit
from vol3d.diffusion.model import Diffusion
from vol3d.errors import ConfigError, DataError
from vol3d.metrics.verdict import tell_reconstruction
from vol3d.tasks.base import Batch, Runner
from vol3d.tasks.card import model_card
from vol3d.trained.autoencoder import TrainedAutoencoder
from vol3d.trained.generator import sample_latents

log = logging.getLogger(__name__)


class Diffuse(Diffusion):
    """Train a latent diffusion model."""

    learns_from: ClassVar = Latents
    kind: Literal["diffuse"] = "diffuse"
    covariates: Annotated[dict[str, Wanted], BeforeValidator(without_nulls)] = {}
    """What the model is told, by column of the participants' table."""
    cond_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability with which each covariate is hidden from a training image."""
    drop_all: float = Field(default=0.1, ge=0, lt=1)
    """Probability with which all are hidden at once, for classifier-free guidance."""
    sample_posterior: bool = True
    """Train on draws from the autoencoder's posterior, new each time; false trains on its means."""

    def check(self, scans: list[Visit]) -> list[str]:
        """Refuse covariates that cannot be learnt; what is doubtful.

        Raises:
            ConfigError: nobody has them.
            DataError: they are text where a number is due.
        """
        refuse_unknown(self.covariates, scans)
        return few_people(scans)

    def job(self, data: Latents) -> "DiffuseJob":
        """Open the latents and build the network."""
        latents = data.open()
        return DiffuseJob(self, latents, autoencoder_of(latents))

    def fake_job(self, latents: LatentImages | FakeLatents) -> "DiffuseJob":
        """The job without an autoencoder, on latents that there are or that nobody made."""
        return DiffuseJob(self, latents, None)


class DiffuseJob:
    """A diffusion model in training; see `vol3d.tasks.base.Job`.

    The autoencoder makes pictures of latents; a rehearsal has none.
    """

    title = "diffusion"
    whole_weights = None

    def __init__(
        self,
        task: Diffuse,
        latents: LatentImages | FakeLatents,
        autoencoder: TrainedAutoencoder | None,
    ) -> None:
        self.task, self.latents, self.scans = task, latents, latents.train
        self.autoencoder = autoencoder
        self.schema = Covariates.measure(
            task.covariates, [s.covariates for s in self.scans], [s.name for s in self.scans]
        )
        self.nets: dict[str, nn.Module] = {"denoiser": task.build(latents.z_channels, self.schema)}
        self.optims: dict[str, Any] = {}
        self.averaged = ["denoiser"]
        refuse_unknown(task.covariates, latents.train + latents.val)
        if SPACING in self.schema.names and not isinstance(self.schema[SPACING], Number):
            raise ConfigError(f"task.covariates.{SPACING}: is a number, in mm")
        if any(s.res for s in self.scans) and SPACING not in self.schema.names:
            raise ConfigError(
                f"{latents.path}: has several resolutions, and the model must be told which; "
                f"give task.covariates.{SPACING}.unit=mm"
            )

    def draw(self, scan: Visit, rng: torch.Generator) -> dict[str, Tensor]:
        """A latent, its noise level, and the covariates that are not hidden."""
        stored = self.latents.read(scan)
        z = torch.from_numpy(stored["mean"])
        if self.task.sample_posterior:
            z = z + torch.from_numpy(np.exp(stored["logvar"] / 2)) * torch.randn(
                z.shape, generator=rng
            )
        keep = torch.rand(len(self.schema.columns), generator=rng) >= self.task.cond_dropout
        keep &= torch.rand((), generator=rng) >= self.task.drop_all
        return {
            "z": z,
            "sigma": self.task.schedule.draw_sigma(rng),
            "covariates": torch.tensor(self.schema.encode(scan.covariates, keep.tolist())),
        }

    def losses(self, engine: Runner, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """The denoising loss."""
        denoise = partial(engine.call, "denoiser")
        loss = self.loss(engine, denoise, batch.tensors, batch.rngs)
        yield "denoiser", {"denoising": loss.mean()}

    def loss(
        self,
        engine: Runner,
        net: Callable[..., Tensor],
        drawn: dict[str, Tensor],
        rngs: list[torch.Generator],
    ) -> Tensor:
        """Of each image, [B]."""
        z, noise = (
            t.to(engine.device, memory_format=torch.channels_last_3d)
            for t in (drawn["z"], randn(tuple(drawn["z"].shape[1:]), rngs))
        )
        with engine.autocast():
            return net(z, noise, drawn["sigma"], drawn["covariates"].to(engine.device))

    @torch.inference_mode()
    def validate(self, engine: Runner) -> dict[str, float]:
        """The denoising loss on held-out people, with noise that is the same each time."""
        scans = self.latents.val[:64]
        if not scans:
            return {}
        rngs = [torch_rng("validation", i) for i in range(len(scans))]
        drawn = [self.draw(s, rng) for s, rng in zip(scans, rngs, strict=True)]
        names = [s.name for s in scans]
        batch = Batch(0, names, [s.covariates for s in scans], rngs, drawn, names)
        losses = [
            self.loss(engine, engine.averaged["denoiser"], some.tensors, some.rngs)
            for some in batch.split(4)
        ]
        return {"denoising": torch.cat(losses).mean().item()}

    def preview(self, engine: Runner) -> np.ndarray:
        """Samples with the covariates of four held-out people, from fixed seeds."""
        scans = self.latents.val or self.scans
        scans = [s for s in scans if s.res == scans[0].res][:4]
        shape = self.latents.read(scans[0])["mean"].shape
        rows = [
            self.schema.complete(
                {n: s.covariates.get(n) for n in self.schema.names}, np.random.default_rng(0)
            )
            for s in scans
        ]
        z = sample_latents(
            engine.averaged["denoiser"],
            self.schema,
            rows,
            list(range(len(rows))),
            self.task.sampler,
            shape,
        ).cpu()
        by_channel = (1, -1, 1, 1, 1)
        z = z * torch.from_numpy(self.latents.scale).view(by_channel) + torch.from_numpy(
            self.latents.shift
        ).view(by_channel)
        return montage(list(self.autoencoder.decode(z)[:, 0].numpy()))

    def bundle(self, engine: Runner) -> dict[str, Any]:
        """The averaged network with its schema, its autoencoder, and the latents' shift and scale."""
        fingerprint = self.latents.fingerprint()
        parts = self.task.dump()
        return {
            "config": {"kind": "diffusion", **{k: parts[k] for k in Diffusion.model_fields}},
            "weights": engine.averaged["denoiser"].state_dict(),
            "documents": {
                "fingerprint": fingerprint,
                "covariates": self.schema.dump(),
                "quality": self.autoencoder.quality,
            },
            "card": model_card(
                "diffusion model",
                "draws brains of the covariates that are asked for",
                fingerprint,
                self.autoencoder.quality,
                self.schema,
            ),
            "inside": {"autoencoder": self.autoencoder.path},
        }


def autoencoder_of(latents: LatentImages) -> TrainedAutoencoder:
    """The autoencoder that made the latents.

    Raises:
        DataError: the one beside them is another.
        ConfigError: nobody knows how good it is.
    """
    autoencoder = TrainedAutoencoder(latents.path / "autoencoder")
    if autoencoder.checksum != latents.manifest["autoencoder"]:
        raise DataError(
            f"{latents.path}: its autoencoder is not the one that made the latents; encode again"
        )
    quality = autoencoder.quality
    if not quality:
        raise ConfigError(
            f"{latents.path}: its autoencoder was never measured on held-out people; train it on "
            f"data with a validation split (data.val_fraction, or a column `split`), or import it "
            f"with data"
        )
    log.info(
        "autoencoder: in-brain PSNR %.1f dB on %d held-out scans (block averaging %.1f dB)",
        quality["psnr_brain_db"],
        quality["n"],
        quality["psnr_brain_block_average_db"],
    )
    tell_reconstruction(quality)
    return autoencoder
