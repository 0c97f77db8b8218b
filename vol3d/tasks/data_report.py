"""A look at what a task would learn from, before anything is computed: one line, and what is doubtful."""

import logging

from vol3d.data.dataset import Dataset
from vol3d.data.latents import Latents
from vol3d.data.summary import doubts, few_people, overview
from vol3d.data.visit import Visit
from vol3d.tasks import Task

log = logging.getLogger(__name__)


def report_data(data: Dataset | Latents, task: Task | None = None) -> None:
    """Tell in one line what there is to learn from, and warn of what is doubtful."""
    scans = data.scans()
    wanted = getattr(task, "covariates", {})
    log.info("data: %s", overview(scans, data.lies_on(scans), wanted))
    warn(data, scans, task)


def warn(data: Dataset | Latents, scans: list[Visit], task: Task | None = None) -> None:
    """Warn of what is doubtful about scans; see `report_data`."""
    for line in [*data.doubts(scans), *doubts(scans, getattr(task, "covariates", {}))]:
        log.warning("warning: %s", line)
    for line in task.check(scans) if task else few_people(scans):  # after those that say why
        log.warning("warning: %s", line)
