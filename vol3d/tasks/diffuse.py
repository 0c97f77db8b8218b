"""The diffusion model's training: learn to remove noise, told all that is known of a visit."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from vol3d.config import without_nulls
from vol3d.data.covariate_types import Number, Wanted
from vol3d.data.covariates import Covariates, refuse_unknown
from vol3d.data.dataset import SPACING, Dataset
from vol3d.data.fake import FakeImages, FakeLatents
from vol3d.data.latents import LatentImages
from vol3d.data.latents import Latents as Source
from vol3d.data.montage import montage
from vol3d.data.patches import Place
from vol3d.data.rng import randn, torch_rng
from vol3d.data.summary import few_people
from vol3d.data.visit import Visit
from vol3d.diffusion.conditioning import (
    COARSE,
    COARSE_NOISE,
    COORDINATES,
    COVARIATES,
    NUMBERS,
    RATER,
    Known,
)
from vol3d.diffusion.tiles import coarse_look
from vol3d.errors import ConfigError
from vol3d.tasks.job import Batch, Runner
from vol3d.tasks.model_card import model_card
from vol3d.trained.generator import DiffusionBundle, DiffusionOf
from vol3d.trained.sampling import Guides, draw_samples
from vol3d.trained.target import START, WEIGHT, WHOLE, Samples, flagged


class Diffuse(DiffusionOf):
    """Train a diffusion model."""

    kind: Literal["diffuse"] = "diffuse"
    covariates: Annotated[dict[str, Wanted], BeforeValidator(without_nulls)] = {}
    """What the model is told, by column of the participants' table."""
    cond_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability with which each covariate, and each image that guides, is hidden in training."""
    drop_all: float = Field(default=0.1, ge=0, lt=1)
    """Probability with which all are hidden at once, for classifier-free guidance."""

    @property
    def learns_from(self) -> type:
        """The kind of data that has what is drawn."""
        return self.target.learns_from

    @property
    def label_maps(self) -> list[str]:
        """The label maps that it learns from."""
        return self.target.label_maps

    def check(self, scans: list[Visit]) -> list[str]:
        """Refuse covariates that cannot be learnt; what is doubtful.

        Raises:
            ConfigError: nobody has them.
            DataError: they are text where a number is due; or see `Target.check`.
        """
        refuse_unknown(self.covariates, scans)
        self.target.check(scans)
        return few_people(scans)

    def job(self, data: Source | Dataset) -> "DiffuseJob":
        """Open the data and build the network."""
        return DiffuseJob(self, self.target.samples(data, list(self.images)))

    def fake_job(self, data: LatentImages | FakeLatents | FakeImages) -> "DiffuseJob":
        """The job without an autoencoder, on data that there are or that nobody made."""
        return DiffuseJob(self, self.target.dry_samples(data))


class DiffuseJob:
    """A diffusion model in training; see `vol3d.tasks.job.Job`."""

    title = "diffusion"
    whole_weights = None
    uneven = None

    def __init__(self, task: Diffuse, samples: Samples) -> None:
        self.task, self.samples, self.scans = task, samples, samples.train
        if task.context == "coarse":
            samples.check_coarse()
        self.schema = Covariates.measure(
            task.covariates, [s.covariates for s in self.scans], [s.name for s in self.scans]
        )
        self.images = {name: samples.given_channels(name) for name in task.images}
        net = task.build(Known(self.schema, samples.channels, self.images, len(task.label_maps)))
        self.nets: dict[str, nn.Module] = {"denoiser": net}
        self.optims: dict[str, Any] = {}
        self.averaged = ["denoiser"]
        refuse_unknown(task.covariates, samples.train + samples.val)
        if SPACING in self.schema.names and not isinstance(self.schema[SPACING], Number):
            raise ConfigError(f"task.covariates.{SPACING}: is a number, in mm")
        if any(s.res for s in self.scans) and SPACING not in self.schema.names:
            raise ConfigError(
                f"{samples.path}: has several resolutions, and the model must be told which; "
                f"give task.covariates.{SPACING}.unit=mm"
            )

    def draw(self, scan: Visit, rng: torch.Generator) -> dict[str, Tensor]:
        """What is drawn, its noise level, and what guides and is not hidden."""
        is_coarse = self.task.context == "coarse"
        sample = self.samples.sample(scan, list(self.images), rng, with_whole=is_coarse)
        names = [*self.schema.names, *self.images]
        keep = torch.rand(len(names), generator=rng) >= self.task.cond_dropout
        keep &= torch.rand((), generator=rng) >= self.task.drop_all
        shown = dict(zip(names, keep.tolist(), strict=True))
        row = self.schema.encode(scan.covariates, [shown[n] for n in self.schema.names])
        sigma = self.task.schedule.draw_sigma(rng)
        more = {COORDINATES: sample[COORDINATES]} if self.task.wants_coordinates else {}
        if RATER in sample:
            more[RATER] = sample[RATER]
        if n := self.task.numbers:
            more[NUMBERS] = torch.randn(n, generator=rng)
        return {
            **{n: sample[n] for n in (WHOLE, START) if n in sample},
            "x0": sample["x0"],
            "sigma": sigma,
            WEIGHT: sample.get(WEIGHT, torch.tensor(1.0)),
            COVARIATES: torch.tensor(row),
            **more,
            **flagged(sample, self.images, shown),
        }

    def losses(self, engine: Runner, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """The denoising loss, and what the conditions add."""
        denoise = partial(engine.call, "denoiser")
        terms = self.terms(engine, denoise, batch.tensors, batch.rngs)
        yield "denoiser", {name: term.mean() for name, term in terms.items()}

    def terms(
        self,
        engine: Runner,
        net: Callable[..., dict[str, Tensor]],
        drawn: dict[str, Tensor],
        rngs: list[torch.Generator],
    ) -> dict[str, Tensor]:
        """The terms of the loss of each image, [B], by name."""
        x0, whole = drawn["x0"], drawn.get(WHOLE)
        noise = randn(tuple((x0 if whole is None else whole).shape[1:]), rngs)
        looks = {}
        if whole is not None:
            size = x0.shape[2:]
            looks = {COARSE: coarse_look(whole, size), COARSE_NOISE: coarse_look(noise, size)}
            places = [Place(tuple(start), tuple(size)) for start in drawn[START].tolist()]
            noise = torch.stack([p.of(n) for p, n in zip(places, noise, strict=True)])
        x0, noise = (t.to(engine.device, memory_format=torch.channels_last_3d) for t in (x0, noise))
        ours = ("x0", "sigma", WEIGHT, WHOLE, START)
        given = {n: t.to(engine.device) for n, t in {**drawn, **looks}.items() if n not in ours}
        weight = drawn[WEIGHT].to(engine.device)
        with engine.autocast():
            terms = net(x0, noise, drawn["sigma"], given)
        return {name: term * weight for name, term in terms.items()}

    @torch.inference_mode()
    def validate(self, engine: Runner) -> dict[str, float]:
        """The terms of the loss on held-out people, with noise that is the same each time."""
        scans = self.samples.val[:64]
        if not scans:
            return {}
        rngs = [torch_rng("validation", i) for i in range(len(scans))]
        drawn = [self.draw(s, rng) for s, rng in zip(scans, rngs, strict=True)]
        names = [s.name for s in scans]
        batch = Batch(0, names, [s.covariates for s in scans], rngs, drawn, names)
        parts = [
            self.terms(engine, engine.averaged["denoiser"], some.tensors, some.rngs)
            for some in batch.split(4)
        ]
        return {name: torch.cat([p[name] for p in parts]).mean().item() for name in parts[0]}

    def preview(self, engine: Runner) -> np.ndarray:
        """Samples with what is known of four held-out people, from fixed seeds."""
        scans = self.samples.val or self.scans
        scans = [s for s in scans if s.res == scans[0].res][:4]
        samples = [self.samples.sample(s, list(self.images), None) for s in scans]
        alike = [i for i, s in enumerate(samples) if s["x0"].shape == samples[0]["x0"].shape]
        samples = [samples[i] for i in alike]
        rows = [
            self.schema.complete(
                {n: scans[i].covariates.get(n) for n in self.schema.names}, np.random.default_rng(0)
            )
            for i in alike
        ]
        x0 = draw_samples(
            engine.averaged["denoiser"],
            self.schema,
            rows,
            list(range(len(rows))),
            self.task.sampler,
            tuple(samples[0]["x0"].shape),
            images=Guides(self.images, self.task.images, samples),
        ).cpu()
        volumes = self.samples.codec.decode(x0)[:, 0].float()
        return montage(list((volumes / max(1.0, volumes.max().item())).numpy()))

    def bundle(self, engine: Runner) -> dict[str, Any]:
        """The averaged network with its schema, and what makes volumes of what it draws."""
        documents = {"quality": {}, **self.samples.documents()}
        parts = self.task.dump()
        kept = [name for name in DiffusionBundle.model_fields if name != "kind"]
        return {
            "config": {"kind": "diffusion", **{k: parts[k] for k in kept}},
            "weights": engine.averaged["denoiser"].state_dict(),
            "documents": {**documents, "covariates": self.schema.dump()},
            "card": model_card(
                "diffusion model",
                "draws brains of the covariates that are asked for",
                documents["fingerprint"],
                documents["quality"],
                self.schema,
            ),
            "inside": self.samples.inside(),
        }
