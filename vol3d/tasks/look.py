"""A look at what a task would learn from, before anything is computed: one line, and what is doubtful."""

import logging

from vol3d.data.dataset import Dataset
from vol3d.data.latents import Latents
from vol3d.data.survey import doubts, few_people, overview
from vol3d.tasks import Task

log = logging.getLogger(__name__)


def look(data: Dataset | Latents, task: Task | None = None) -> list[str]:
    """Tell what there is to learn from, in one line, and warn of what is doubtful.

    Args:
        data: the scans, or latents.
        task: what would learn from them; without it, doubts are those of a generator.

    Returns:
        The warnings.

    Raises:
        ConfigError: data or task are off, such as a covariate that nobody has.
        DataError: files or tables are not as they should be.
    """
    scans = data.scans()
    wanted = getattr(task, "covariates", {})
    log.info("data: %s", overview(scans, data.lies_on(), wanted))
    found = [
        *data.doubts(),
        *(task.check(scans) if task else few_people(scans)),
        *doubts(scans, wanted),
    ]
    for line in found:
        log.warning("warning: %s", line)
    return found
