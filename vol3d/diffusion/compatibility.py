"""Which predictions, variances and solvers go with which schedules: the one place that lists them.

Each part knows what it needs (its `objection`); here every pair is asked.
"""

from typing import Protocol, get_args

from vol3d.diffusion.prediction import Prediction
from vol3d.diffusion.sampler_interface import Process
from vol3d.diffusion.schedules import Schedule
from vol3d.diffusion.solvers import Solver
from vol3d.errors import ConfigError


class Part(Protocol):
    """Something that must fit a schedule."""

    kind: str

    def objection(self, process: Process) -> str | None:
        """Why it does not go with the process; None if it does."""


def check_pair(schedule: Process, part: Part, role: str) -> None:
    """Refuse, by a ConfigError, a prediction, variance or solver that does not go with a schedule."""
    why = part.objection(schedule)
    if why is None:
        return
    fits = [p.kind for p in choices(role) if p.objection(schedule) is None]
    hint = f" Valid with '{schedule.kind}': {', '.join(fits)}." if fits else ""
    raise ConfigError(
        f"{role} '{part.kind}' does not go with schedule '{schedule.kind}': {why}.{hint}"
    )


def choices(role: str) -> list[Part]:
    """Every kind of a role with its defaults; none where a role is no menu."""
    menu = {"prediction": Prediction, "solver": Solver, "schedule": Schedule}.get(role)
    return [kind() for kind in get_args(get_args(menu)[0])] if menu else []
