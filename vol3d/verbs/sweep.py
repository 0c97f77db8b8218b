"""How many steps and members an ensemble needs: quality and time of each number of either, in one run."""

import logging
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from vol3d.bundle import Bundle
from vol3d.config import Config, several
from vol3d.data.bids_writer import write_json, write_tsv
from vol3d.data.dataset import Names
from vol3d.data.datasets import Source, told_by_path
from vol3d.data.native_scan import NativeScan
from vol3d.data.tables import few, read_rows
from vol3d.data.true_labels import TrueLabels, labels_meant
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError, DataError
from vol3d.io.files import is_free, whole
from vol3d.io.lock import at_work
from vol3d.io.progress import Bar
from vol3d.io.reading import read_json, under
from vol3d.metrics.calibration import Reliability
from vol3d.metrics.growing_ensemble import Grown, grow
from vol3d.trained.members import kind_at, open_members
from vol3d.trained.mixture import Mixture, takes
from vol3d.trained.targets.labels import Structures
from vol3d.training.engine import device_of
from vol3d.verbs.train import generator_at

log = logging.getLogger(__name__)
Counts = Annotated[list[PositiveInt], BeforeValidator(several), Field(min_length=1)]
TABLE, SETTINGS, PICTURE = "sweep.tsv", "sweep.json", "sweep.png"
NUMBERS = dict.fromkeys(("steps", "members", "calls_per_volume", "visits"), int) | {"solver": str}
"""What is no float in the table."""


class Sweep(Config):
    """Try steps and members: vol3d sweep BUNDLE OUT data.path=FOLDER steps=[1,5,20] members=[1,4,16].

    At each number of steps the largest number of members is drawn of each visit, by the same seeds,
    and scored as it grows. Writes sweep.tsv, and sweep.png with the Dice and the time of each
    setting. Run it again to go on after a stop, or with further steps.
    """

    positional: ClassVar[tuple[str, ...]] = ("bundle", "out")
    bundle: Path
    """Bundle or run of a diffusion model that draws label maps; of another segmenter, members alone are
    tried."""
    out: Path
    """Folder to write; new, empty, or an unfinished sweep of the same settings."""
    data: Source
    """Scans with their label maps."""
    steps: Counts = [1, 2, 5, 10, 20]
    """Numbers of sampling steps."""
    members: Counts = [1, 2, 4, 8, 16]
    """Numbers of members; those of a small ensemble are the first of a large one."""
    solvers: Names = []
    """Solvers to try, such as [euler, heun]; the model's own if none is named."""
    of: Names = []
    """The label maps that are true, as in vol3d score."""
    structures: Structures = {}
    """The labels that make each structure, as in the training; what the model says of it holds if none
    is named."""
    split: Literal["train", "val"] | None = "val"
    """The part of the data: those held out; null takes all."""
    n: PositiveInt = 20
    """Visits at most, spread evenly."""
    sampler: dict[str, Any] = {}
    """Further changes to the sampler: sampler.precision=fp32, sampler.micro_batch=8."""
    seed: NonNegativeInt = 0
    """Of the first member; the next one has the next."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""

    @model_validator(mode="before")
    @classmethod
    def know_the_data(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Their path tells the kind of the data where nobody says it."""
        return told_by_path(given)

    def execute(self) -> list[Path]:
        """Try all that is not in the table yet."""
        truth, visits, labels = self.foresee()
        with at_work(self.out):
            rows = self.claim(self.settings(truth, visits, labels))
            for solver, steps in self.trials():
                if (solver, steps) not in {(r["solver"], r["steps"]) for r in rows}:
                    rows += self.tried(solver, steps, truth, visits, labels)
                    write_tsv(self.out / TABLE, rows)
            self.draw(rows)
        return [self.out / PICTURE, self.out / TABLE]

    def foresee(self) -> tuple[TrueLabels, list[Visit], dict[str, list[int | str]]]:
        """What there is to score on; a dry run stops here.

        Raises:
            ConfigError: a setting is off.
            DataError: nobody has label maps and the images that the model takes.
        """
        solver, steps = self.trials()[0]
        mixture = self.mixture(solver, steps)
        truth = TrueLabels(self.data, self.of, self.split)
        found, taken = [*truth.visits.values()], mixture.contrasts
        if taken:
            found = [v for v in found if {*taken} & {*v.images}]
        if not found:
            raise DataError(f"{self.data.path}: no visit has a label map and {' or '.join(taken)}")
        visits = [
            found[i]
            for i in np.linspace(0, len(found) - 1, min(self.n, len(found))).round().astype(int)
        ]
        mixture.tell(max(self.members))
        mixture.check(visits)
        told = self.structures or mixture.segmenters[0].labels
        labels = labels_meant(told, mixture.structures, self.bundle)
        if missing := [name for name in mixture.structures if name not in labels]:
            raise ConfigError(
                f"structures: say the labels of {few(missing)} too; a sweep scores all that is found"
            )
        return truth, visits, labels

    def trials(self) -> list[tuple[str | None, int | None]]:
        """Each solver with each number of steps; one without either, of what is no diffusion model."""
        if kind_at(generator_at(self.bundle)) != "diffusion":
            if self.sampler or self.solvers or "steps" in self.model_fields_set:
                raise ConfigError(
                    f"{self.bundle}: is no diffusion model, and has no sampler, solver or steps"
                )
            return [(None, None)]
        return [(s, n) for s in self.solvers or [self.own_solver()] for n in sorted({*self.steps})]

    def own_solver(self) -> str:
        """That of the model, or of the changes."""
        model = open_members(generator_at(self.bundle), "cpu", self.sampler)
        return model.model.sampler.solver.kind

    def mixture(self, solver: str | None, steps: int | None) -> Mixture:
        """The model as an ensemble of the most members."""
        changes = None
        if solver is not None:
            named = under(self.sampler, "solver").get("kind", self.sampler.get("solver"))
            same = {} if named == solver else {"solver": solver}
            changes = {**self.sampler, **same, "steps": steps}
        model = open_members(generator_at(self.bundle), device_of(self.device), changes)
        return Mixture([model], max(self.members), self.seed)

    def settings(
        self, truth: TrueLabels, visits: list[Visit], labels: dict[str, list[int | str]]
    ) -> dict[str, Any]:
        """What figures depend on, beside what is tried."""
        path = generator_at(self.bundle)
        return {
            "segmenter": Bundle(path, kind_at(path)).checksum,
            "members": sorted({*self.members}),
            "data": {**self.data.dump(), "path": str(self.data.path.resolve())},
            "split": self.split,
            "visits": [v.who for v in visits],
            "of": truth.raters,
            "structures": labels,
            "sampler": self.sampler,
            "seed": self.seed,
        }

    def claim(self, settings: dict[str, Any]) -> list[dict[str, Any]]:
        """Check that the folder is ours; what was tried already.

        Raises:
            ConfigError: it holds something else, or a sweep of other settings.
        """
        if is_free(self.out):
            write_json(self.out / SETTINGS, settings)
        elif not (self.out / SETTINGS).is_file():
            raise ConfigError(f"{self.out}: holds something else; name another folder")
        begun = read_json(self.out / SETTINGS)
        for name, value in settings.items():
            if begun.get(name) != value:
                raise ConfigError(f"{self.out}: was begun with other {name}; name another folder")
        if not (self.out / TABLE).is_file():
            return []
        return [
            {k: None if v == "n/a" else NUMBERS.get(k, float)(v) for k, v in row.items()}
            for row in read_rows(self.out / TABLE)
        ]

    def tried(
        self,
        solver: str | None,
        steps: int | None,
        truth: TrueLabels,
        visits: list[Visit],
        labels: dict[str, list[int | str]],
    ) -> list[dict[str, Any]]:
        """A row for each number of members."""
        mixture = self.mixture(solver, steps)
        sizes = sorted({min(m, len(mixture.dealt)) for m in self.members})
        names = mixture.structures
        labels = {name: labels[name] for name in names}  # in the order of the model's
        found: dict[int, list[Grown]] = {m: [] for m in sizes}
        title = f"sweep, {solver} {steps} steps" if solver else "sweep"
        with Bar(title, len(visits)) as bar:
            for visit in visits:
                scan = NativeScan.read(visit, takes(mixture.segmenters[0]) or [*visit.images][:1])
                truths = truth.read(visit, scan.grid, labels)
                for grown in grow(mixture.of(scan), sizes, truths, scan.grid.spacing):
                    found[grown.members].append(grown)
                bar.advance()
        whole_ensemble = [g.seconds / g.members for g in found[sizes[-1]]]
        each_s = float(np.median(whole_ensemble))  # the first one warms up
        calls = mixture.segmenters[0].calls
        return [row_of(solver, steps, calls, each_s, names, found[m]) for m in sizes]

    def draw(self, rows: list[dict[str, Any]]) -> None:
        """The heat maps."""
        from vol3d.report.sweep_heat_map import heat_maps

        with whole(self.out / PICTURE) as part:
            heat_maps(rows).savefig(part, format="png")


def row_of(
    solver: str | None,
    steps: int | None,
    calls: int,
    each_s: float,
    names: list[str],
    of: list[Grown],
) -> dict[str, Any]:
    """What visits say of one setting."""
    pooled = sum((g.reliability for g in of), Reliability())
    dice = np.array([g.dice for g in of])  # [visits, S]
    ged = [g.ged_squared for g in of if not np.isnan(g.ged_squared)]  # of visits of several raters
    members = of[0].members
    return {
        "solver": solver,
        "steps": steps,
        "members": members,
        "calls_per_volume": calls * members,
        "seconds_per_volume": round(each_s * members, 3),
        "visits": len(of),
        "dice": round(float(dice.mean()), 5),
        **{f"dice_{n}": round(float(d), 5) for n, d in zip(names, dice.mean(0), strict=True)},
        "ece": None if np.isnan(pooled.error) else round(pooled.error, 5),
        "ged_squared": round(float(np.mean(ged)), 5) if ged else None,
    }
