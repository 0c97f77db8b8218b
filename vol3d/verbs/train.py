"""Train an autoencoder, a diffusion model, a segmenter or a registrar from a config."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from vol3d.bundle import find, write_bundle
from vol3d.data.datasets import Source
from vol3d.data.latents import Latents
from vol3d.distributed.ranks import Ranks, joined
from vol3d.errors import ConfigError
from vol3d.io.lock import at_work
from vol3d.io.reading import read_json, understood
from vol3d.nn.precision import Precision, resolve
from vol3d.tasks import Task
from vol3d.tasks.data_report import report_data
from vol3d.tasks.job import Job
from vol3d.training.checkpoint import Checkpoints
from vol3d.training.engine import Engine, device_of, tell_precision
from vol3d.training.loop import Training, check_folder, make_folder, share_of, start, train
from vol3d.training.memory_check import check_memory
from vol3d.training.signals import NEVER, StopSignal, leave
from vol3d.training.unfinished_bundle import write_interim

log = logging.getLogger(__name__)


class Train(Training):
    """Train a model: vol3d train CONFIG.yaml [key=value ...]. Run it again to go on after a stop."""

    positional: ClassVar[tuple[str, ...]] = ()
    task: Task
    """What to train."""
    data: Annotated[Source | Latents, Field(discriminator="kind")]
    """What to train on: scans, or latents for the diffusion model."""

    def execute(self) -> Path | list[Path]:
        """Train, and write the bundle; its path, on the first of several processes."""
        with StopSignal() as stop:
            with joined(self.device) as ranks:
                decided = self.model_copy(update={"precision": ranks.alone(self.decide)})
                told = decided.work(ranks, stop)
            if told:
                leave(told, self.run, ranks.first)
        return self.run / "bundle" if ranks.first and not told else []

    def decide(self) -> Precision:
        """bf16 or fp32: what the run began with; else what was asked for, or suits the device."""
        begun = self.run / "config.yaml"
        if self.precision == "auto" and begun.is_file():
            before = type(self).read(begun).precision
            log.info("precision=auto: %s, with which this run began", before)
            return before
        tell_precision(self.precision, self.device)
        return resolve(self.precision, device_of(self.device))

    def foresee(self) -> None:
        """What a dry run says beside the settings; it refuses what a run would."""
        self.check_data()
        decided = self.model_copy(update={"precision": self.decide()})
        check_folder(decided)
        report_data(self.data, self.task)
        if self.check_memory:
            check_memory(decided)
        self.task.job(self.data)

    def work(self, ranks: Ranks, stop: StopSignal = NEVER) -> int:
        """Train among processes that have met; 0, or the signal because of which they are to leave."""
        with ExitStack() as held:
            if not ranks.alone(lambda: self.prepare(ranks, held)):
                job, engine = start(lambda: self.task.job(self.data), self, ranks)
                ranks.alone(lambda: make_folder(self))
                told = train(job, self, engine, stop)
                if told:
                    return told
                with engine.whole():
                    ranks.alone(lambda: self.write_bundle(job, engine))
            ranks.alone(self.finish)
        return 0

    def prepare(self, ranks: Ranks, held: ExitStack) -> bool:
        """Check all that can be checked, and take the folder; whether the run has finished.

        Raises:
            ConfigError: it cannot be done; nothing was written.
        """
        self.check_data()
        if self.has_finished():  # it is only read, and may be where nothing can be written
            return True
        held.enter_context(at_work(self.run))
        if self.has_finished():  # meanwhile, by whom this one waited for
            return True
        report_data(self.data, self.task)
        share_of(self, ranks)
        if self.check_memory:
            check_memory(self, ranks)
        return False

    def has_finished(self) -> bool:
        """Whether the folder holds this run, and its result.

        Raises:
            ConfigError: it holds something else.
        """
        check_folder(self)
        if not (self.run / "bundle").is_dir():
            return False
        with understood(file := find(self.run / "bundle") / "training.json"):
            images = int(read_json(file)["images"])
        if images < self.total_nimg:
            log.info("%s: has finished after %d images, and goes on", self.run, images)
            return False
        log.info("%s: has finished; nothing to do", self.run)
        return True

    def check_data(self) -> None:
        """Check that the data are what the task learns from."""
        if not isinstance(self.data, self.task.learns_from):
            raise ConfigError(
                f"data.kind={self.data.kind}: are {self.data.are}, and task {self.task.kind} learns "
                f"from {self.task.learns_from.are}"
            )

    def write_bundle(self, job: Job, engine: Engine) -> None:
        """The result of the run."""
        told = job.bundle(engine)
        training = {"precision": engine.precision, "device": engine.device.type}
        told["documents"]["training"] = {**training, "images": self.total_nimg, "batch": self.batch}
        write_bundle(self.run / "bundle", **told)

    def interim(self) -> Path | None:
        """A bundle of the last checkpoint; None where there is none yet."""
        checkpoint = Checkpoints(self.run / "checkpoints", self.keep).newest()
        return checkpoint and write_interim(self, checkpoint, self.task.job(self.data))

    def finish(self) -> None:
        """Tell the trackers of the bundle."""
        for tracker in filter(None, self.trackers.values()):
            tracker.finish(self.run, self.run / "bundle")


def generator_at(path: Path) -> Path:
    """The path as it is; or of a run that has not finished, a bundle of its last checkpoint."""
    begun = path / "config.yaml"
    if not (path / "checkpoints").is_dir() or (path / "bundle").is_dir() or not begun.is_file():
        return path
    training = Train.read(begun).model_copy(update={"run": path})  # it may have been moved
    made = training.interim() if training.task.kind == "diffuse" else None
    return made or path
