"""Train an autoencoder, a diffusion model or a segmenter from a config."""

import logging
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from vol3d.bundle import find, write_bundle
from vol3d.data.datasets import Source
from vol3d.data.latents import Latents
from vol3d.errors import ConfigError
from vol3d.tasks import Task
from vol3d.training.loop import Training, check_folder, make_folder, start, train
from vol3d.training.planner import check_memory

log = logging.getLogger(__name__)


class Train(Training):
    """Train a model: vol3d train CONFIG.yaml [key=value ...]. Run it again to go on after a stop."""

    positional: ClassVar[tuple[str, ...]] = ()
    task: Task
    """What to train."""
    data: Annotated[Source | Latents, Field(discriminator="kind")]
    """What to train on: scans, or latents for the diffusion model."""

    def execute(self) -> Path:
        """Train, and write the bundle; its path."""
        self.check_data()
        check_folder(self)
        bundle = self.run / "bundle"
        if bundle.is_dir():
            find(bundle)
            log.info("%s: has finished; nothing to do", self.run)
            return self.finish(bundle)
        if self.check_memory:
            check_memory(self)
        job, engine = start(lambda: self.task.job(self.data), self)
        make_folder(self)
        train(job, self, engine)
        write_bundle(bundle, **job.bundle(engine))
        return self.finish(bundle)

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
