"""Train an autoencoder, a diffusion model or a segmenter from a config."""

import logging
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from vol3d.bundle import find, write_bundle
from vol3d.data.datasets import Source
from vol3d.data.latents import Latents
from vol3d.errors import ConfigError
from vol3d.ranks import Ranks, joined
from vol3d.tasks import Task
from vol3d.training.loop import Training, check_folder, make_folder, share_of, start, train
from vol3d.training.notice import Notice, leave
from vol3d.training.planner import check_memory

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
        with joined(self.device) as ranks:
            return self.work(ranks)

    def work(self, ranks: Ranks) -> Path | list[Path]:
        """The same, among processes that have met."""
        finished = ranks.alone(lambda: self.prepare(ranks))
        if not finished and not self.train(ranks):
            return []
        return self.finish(self.run / "bundle") if ranks.first else []

    def prepare(self, ranks: Ranks) -> bool:
        """Check all that can be checked, and make the folder; whether the run has finished.

        Raises:
            ConfigError: it cannot be done; nothing was written.
        """
        self.check_data()
        check_folder(self)
        if (self.run / "bundle").is_dir():
            find(self.run / "bundle")
            log.info("%s: has finished; nothing to do", self.run)
            return True
        share_of(self, ranks)
        if self.check_memory:
            check_memory(self, ranks)
        return False

    def train(self, ranks: Ranks) -> bool:
        """Train, and write the bundle; false if the run was told to leave before."""
        with Notice() as notice:
            job, engine = start(lambda: self.task.job(self.data), self, ranks)
            ranks.alone(lambda: make_folder(self))
            told = train(job, self, engine, notice)
            if told:
                leave(told, self.run, ranks.first)
                return False
            with engine.whole():
                ranks.alone(
                    lambda: write_bundle(self.run / "bundle", **job.bundle(engine)) and None
                )
        return True

    def check_data(self) -> None:
        """Check that the data are what the task learns from."""
        if not isinstance(self.data, self.task.learns_from):
            raise ConfigError(
                f"data.kind={self.data.kind}: are {self.data.are}, and task {self.task.kind} learns "
                f"from {self.task.learns_from.are}"
            )

    def finish(self, bundle: Path) -> Path:
        """Tell the trackers of the bundle; its path."""
        for tracker in filter(None, self.trackers.values()):
            tracker.finish(self.run, bundle)
        return bundle
