"""Make a cohort of synthetic brains with the covariates that are asked for."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeInt, PositiveInt, model_validator

import vol3d
from vol3d.config import Config
from vol3d.data.bids_writer import anat_place, sidecar_of, write_json
from vol3d.data.brain import solid
from vol3d.data.covariate_requests import checked, gathered, read_table, whole
from vol3d.data.covariate_types import Row
from vol3d.data.datasets import Source
from vol3d.data.visit import Visit
from vol3d.diffusion.model import Sampler
from vol3d.diffusion.sampler_interface import Around, as_it_is
from vol3d.distributed.shards import ALL, Shard, share, tell
from vol3d.errors import ConfigError
from vol3d.io.files import is_free, make_folder
from vol3d.io.lock import at_work
from vol3d.io.progress import Bar
from vol3d.io.reading import read_json
from vol3d.trained import TrainedGenerator, TrainedSegmenter
from vol3d.trained.generated_cohort import (
    Planned,
    batches,
    claim,
    drawn,
    entities_of,
    measure,
    name_of,
    write_table,
)
from vol3d.trained.guiding_images import GuidingVisits
from vol3d.trained.sampling import guidance_scales
from vol3d.training.engine import device_of, tell_precision
from vol3d.verbs.train import generator_at
from vol3d.volume import Volume

log = logging.getLogger(__name__)
STEP = 1e-4
"""Voxels are stored as int16 in steps of this; the scale is [0, 1]."""
SHOWN = 16
"""Brains in the picture, at most."""


class Generate(Config):
    """Generate brains: vol3d generate BUNDLE OUT n=16 age=70 sex=F ventricles_ml=45.

    Any covariate of the model may be given by its name, or a table of them, a row each. What is not
    given is drawn from the training distribution given the rest, or left to the model, as the model
    says. Writes a BIDS derivatives dataset; run it again to make only what is missing.
    """

    positional: ClassVar[tuple[str, ...]] = ("bundle", "out")
    bundle: Path
    """Bundle or run of a diffusion model; of a run that has not finished, its last checkpoint. `ready` is
    the one that comes with vol3d."""
    out: Path
    """Folder to write; new, empty, or an unfinished cohort of the same settings."""
    n: PositiveInt | None = None
    """How many brains; one each for the rows of `covariates` if not given, else 1."""
    seed: NonNegativeInt = 0
    """Brain number i has seed + i, unless the table has a column `seed`."""
    covariates: Path | None = None
    """A TSV with a column per covariate, and if wanted `seed`; n/a where not asked for."""
    data: Source | None = None
    """Visits whose images and label maps guide, of a model that takes some: a brain for each, with the
    visit's covariates where no others are asked for."""
    ask: dict[str, Any] = {}
    """Covariates for all brains; ask.age=70 is the long form of age=70."""
    sampler: dict[str, Any] = {}
    """Changes to the model's sampler: sampler.steps=30, sampler.guidance=2, sampler.solver=euler."""
    micro_batch: PositiveInt | None = None
    """Brains made at a time; short for sampler.micro_batch."""
    shard: Shard = ALL
    """Make only a share, so that several processes make one cohort: 2/4 is the second of four."""
    segmenter: Path | None = None
    """Bundle or finished run of a segmenter, to measure the brains: the volumes go into participants.tsv.
    `ready` is the one that comes with vol3d."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""

    @model_validator(mode="before")
    @classmethod
    def gather(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Words that are no settings are covariates: age=70."""
        return gathered(given, cls.model_fields)

    def execute(self, around: Around = as_it_is) -> Path:
        """Make every brain that is not there yet.

        Args:
            around: what is put around the denoiser, such as one that can be stopped.
        """
        model = self.open(device_of(self.device))
        visits = self.visits()
        plan = self.plan(model, visits)
        segmenter = self.ruler(model, plan, device_of(self.device))
        guides = self.guides(model, plan, visits)
        said = [guides.said(seed) for seed, _, _ in plan]
        with at_work(self.out, [model.checksum, self.changes, plan, said], self.shard):
            return self.work(model, plan, segmenter, guides, around)

    def work(
        self,
        model: TrainedGenerator,
        plan: list[Planned],
        segmenter: TrainedSegmenter | None,
        guides: GuidingVisits,
        around: Around = as_it_is,
    ) -> Path:
        """Make what is missing of a plan, in a folder that is ours or is made so."""
        sampler = self.claim(model)
        if sampler != model.sampler:  # begun on a machine of another kind
            model = TrainedGenerator(model.path, device_of(self.device), sampler.dump())
        paths = {seed: self.path(model, seed) for seed, _, _ in plan}
        lacking = [p for p in plan if not is_made(paths[p[0]], p[2], guides.said(p[0]))]
        write_table(self.out, plan, paths, model)
        whose = share(list(batches(plan, model)), self.shard)
        ours = {seed for some in whose for seed, _, _ in some}
        missing = [p for p in lacking if p[0] in ours]
        with Bar("generate", len(ours), len(ours) - len(missing)) as bar:
            for planned, image in drawn(model, missing, guides.of, around):
                seed = planned[0]
                write_brain(paths[seed], image, planned, model, guides.said(seed))
                bar.advance()
        if segmenter:
            measure([paths[seed] for seed in sorted(ours)], segmenter)
        left = sum(not is_made(paths[seed], row, guides.said(seed)) for seed, _, row in plan)
        tell(self.shard, left, len(plan), "brains")
        write_table(self.out, plan, paths, model)  # once more: another plan's may have replaced it
        if not left:
            self.show([(paths[seed], row) for seed, _, row in plan], model)
        return self.out

    def claim(self, model: TrainedGenerator) -> Sampler:
        """Take the folder; the sampler with which its cohort is made."""
        any_precision = "precision" not in self.changes
        return claim(self.out, model.checksum, model.sampler, any_precision=any_precision)

    def open(self, device: torch.device | str) -> TrainedGenerator:
        """The model; warns of one that has not finished its training."""
        model = TrainedGenerator(generator_at(self.bundle), device, self.changes)
        for words in model.unfinished:
            log.warning("warning: %s: %s", self.bundle, words)
        return model

    def ruler(
        self, model: TrainedGenerator, plan: list[Planned], device: torch.device | str = "cpu"
    ) -> TrainedSegmenter | None:
        """The segmenter, if there is one.

        Raises:
            DataError: it cannot measure what is planned.
        """
        if self.segmenter is None:
            return None
        segmenter = TrainedSegmenter(self.segmenter, device)
        for _, _, row in plan:
            segmenter.check_grid(model.grid_of(row))
        return segmenter

    @property
    def changes(self) -> dict[str, Any]:
        """To the model's sampler."""
        return {**self.sampler, **({"micro_batch": self.micro_batch} if self.micro_batch else {})}

    def show(self, brains: list[tuple[Path, Row]], model: TrainedGenerator) -> None:
        """A picture of the first of them that share a grid, where the BIDS validator does not mind."""
        from vol3d.report.contact_sheet import write_contact_sheet

        shape = model.grid_of(brains[0][1]).shape
        picture = self.out / "sourcedata" / "contact_sheet.png"
        alike = [(image, row) for image, row in brains if model.grid_of(row).shape == shape]
        write_contact_sheet(picture, alike[:SHOWN], model.schema)
        log.info("a picture of them: %s", picture)

    def foresee(self) -> None:
        """What a dry run says beside the settings; it refuses what a run would."""
        tell_precision(self.sampler.get("precision", "auto"), self.device)
        model = self.open("cpu")
        visits = self.visits()
        plan = self.plan(model, visits)
        self.ruler(model, plan)
        if not is_free(self.out):
            self.claim(model)
        guides = self.guides(model, plan, visits)
        made = sum(is_made(self.path(model, s), row, guides.said(s)) for s, _, row in plan)
        log.info("would make %d brains; %d are there", len(plan) - made, made)

    def plan(self, model: TrainedGenerator, visits: Sequence[Visit] = ()) -> list[Planned]:
        """Seed, what was asked for, and the complete row of every brain; warns of what is doubtful.

        Args:
            model: that is asked.
            visits: that guide, a brain for each.

        Raises:
            ConfigError: unknown covariates or settings, an unknown level, text for a number, a seed
                given twice.
        """
        given = checked(model.schema, self.ask, type(self).model_fields)
        table = [{}] * (self.n or 1)
        if self.covariates and self.data:
            raise ConfigError("covariates and data: the visits have their own; give one of them")
        if self.covariates:
            table = read_table(self.covariates, model.schema.names)
        if visits:
            known = [{n: v.covariates.get(n) for n in model.schema.names} for v in visits]
            table = [{n: value for n, value in row.items() if n not in given} for row in known]
        if self.n and self.n > len(table):
            source = self.covariates or self.data.path
            raise ConfigError(f"n={self.n}: {source} has only {len(table)} rows")
        plan = []
        for i, row in enumerate(table[: self.n] if self.n else table):
            seed = self.seed + i if row.get("seed") is None else whole(row["seed"], self.covariates)
            asked = {**given, **model.schema.check({k: v for k, v in row.items() if k != "seed"})}
            plan.append((seed, asked, model.complete(asked, seed)))
        seeds = [seed for seed, _, _ in plan]
        if len(set(seeds)) < len(seeds):
            twice = next(s for s in seeds if seeds.count(s) > 1)
            raise ConfigError(
                f"{self.covariates}: seed {twice} is given twice; each brain has its own"
            )
        for warning in sorted({w for _, asked, _ in plan for w in model.schema.doubts(asked)}):
            log.warning("warning: %s", warning)
        return plan

    def visits(self) -> list[Visit]:
        """Those that guide, in order."""
        return self.data.scans()[: self.n] if self.data else []

    def guides(
        self, model: TrainedGenerator, plan: list[Planned], visits: list[Visit]
    ) -> GuidingVisits:
        """What guides each brain.

        Raises:
            ConfigError: no image guides this model, or no visit has one that does.
        """
        names = list(model.channels)
        if self.data is None:
            return GuidingVisits(names, {})
        seeds = [seed for seed, _, _ in plan]
        by_seed = dict(zip(seeds, visits, strict=True))
        guides = GuidingVisits(names, by_seed, self.data.target_grids())
        if not any(guides.said(seed)["Images"] for seed in seeds):
            takes = f"takes {', '.join(names) or 'no image'}"
            raise ConfigError(
                f"data: no visit has an image that guides {self.bundle}, which {takes}"
            )
        return guides

    def path(self, model: TrainedGenerator, seed: int) -> Path:
        """Where a brain goes."""
        return anat_place(self.out, name_of(seed), entities_of(model, "synth"), model.kind)


def is_made(path: Path, row: Row, guided: dict[str, Any]) -> bool:
    """Whether a brain is there; its sidecar is written last.

    Raises:
        ConfigError: it is there, with other covariates or guided by another visit.
    """
    sidecar = sidecar_of(path)
    if not sidecar.is_file():
        return False
    told = read_json(sidecar)
    for what, due, words in (("Covariates", row, "covariates"), ("GuidedBy", guided, "images")):
        if told.get(what, {}) != due:
            raise ConfigError(
                f"{path.name}: is there already, with other {words}; name another folder"
            )
    return True


def write_brain(
    path: Path, image: Volume, planned: Planned, model: TrainedGenerator, guided: dict[str, Any]
) -> None:
    """The image, its brain mask if it is a stripped brain, then its sidecar: with that it is complete."""
    make_folder(path.parent)
    (seed, asked, row), codec = planned, model.codec
    image.write(path, slope=None if codec.is_labels else STEP)
    if codec.brain_level is not None:
        mask = anat_place(path.parents[2], name_of(seed), entities_of(model, "brain"), "mask")
        solid(image).write(mask)
        write_json(sidecar_of(mask), {"Type": "Brain", "Resolution": str(image.grid)})
    write_json(
        sidecar_of(path),
        {
            "Description": f"synthetic {'label map' if codec.is_labels else model.kind}; nobody's",
            **({} if codec.is_labels else {"SkullStripped": codec.brain_level is not None}),
            "SpatialReference": model.fingerprint.get("entities", {}).get("space", "orig"),
            "Resolution": str(image.grid),
            "Model": model.checksum,
            **({"Autoencoder": model.autoencoder.checksum} if model.autoencoder else {}),
            "Vol3d": vol3d.__version__,
            "Seed": seed,
            "Sampler": model.sampler.dump(),
            "Guidance": guidance_scales(model.sampler, model.schema, model.scales),
            "Asked": {k: v for k, v in asked.items() if v is not None},
            "Covariates": row,
            **({"GuidedBy": guided} if guided else {}),
            "Warnings": [*model.unfinished, *model.schema.doubts(asked)],
        },
    )
