"""Measure how good a generator is, with a report: reconstruction, volumes as asked, diversity."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt

from vol3d.config import Config, flat
from vol3d.data.datasets import Source
from vol3d.errors import ConfigError
from vol3d.io.files import is_free
from vol3d.io.lock import at_work
from vol3d.verbs._evaluation import Evaluation

OURS = ("requests.tsv", "closed_loop", "summary.json", "reconstructions.tsv")


class Evaluate(Config):
    """Evaluate a generator: vol3d evaluate OUT generator=RUN segmenter=RUN data.path=FOLDER.

    Writes report.html, summary.json, and the tables behind them. The closed loop generates a cohort
    in OUT/closed_loop; run it again to go on after a stop.
    """

    positional: ClassVar[tuple[str, ...]] = ("out",)
    out: Path
    """Folder to write; new, empty, or an evaluation that was stopped."""
    generator: Path
    """Bundle or run of a diffusion model; of a run that has not finished, its last checkpoint."""
    data: Source
    """The scans that it was trained on, with their split."""
    segmenter: Path | None = None
    """Bundle or finished run of a segmenter, to measure volumes; without it none are measured. `ready` is
    the one that comes with vol3d, for brains like those of `vol3d sample-cohort`."""
    samples: Path | None = None
    """A cohort of `vol3d generate` to evaluate; without it one is made in OUT/closed_loop."""
    n: int = Field(default=64, ge=3)
    """How many samples, with the seeds 0 to n - 1."""
    pairs: PositiveInt = 64
    """Pairs of volumes for MS-SSIM, at most; the same number of samples and of real scans."""
    pictures: PositiveInt = 5
    """Rows in the report's pictures."""
    pictures_of_people: bool = True
    """Show slices of real people beside samples, and name them; false leaves both out of report.html and
    summary.json. reconstructions.tsv and measurements.tsv, one row a scan, name them all the same."""
    seed: NonNegativeInt = 0
    """Of the requests, the pairs and the bootstrap."""
    sampler: dict[str, Any] = Field(default_factory=dict)
    """Changes to the model's sampler: sampler.steps=30, sampler.guidance=2."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    since: float | None = None
    """A start in Unix seconds; the summary then tells the seconds from then on as wall_s."""

    def execute(self) -> list[Path]:
        """Measure everything that can be, and write the report."""
        with at_work(self.out):
            evaluation = self.foresee()
            evaluation.find_samples()
            evaluation.reconstruct()
            evaluation.check_segmenter()
            evaluation.measure_samples()
            evaluation.compare_pairs()
            return evaluation.write()

    def foresee(self) -> Evaluation:
        """Models and scans that go together, with nothing measured yet; a dry run stops here."""
        if not is_free(self.out) and not any((self.out / name).exists() for name in OURS):
            raise ConfigError(f"{self.out}: holds something else; name another folder")
        return Evaluation(self)

    def command(self) -> str:
        """The settings that were given, as one would type them."""
        given = self.model_dump(mode="json", exclude_unset=True)
        out = given.pop("out")
        return f"vol3d evaluate {out} {' '.join(f'{k}={v}' for k, v in flat(given))}"
