"""Signals to quit: what a queue's signals mean, and how a run leaves so that it is called back.

SLURM sends SIGUSR1 before the time limit (`--signal=USR1@120`) and SIGTERM when another job is to have
the machine. A run that gets either finishes its update, saves, and leaves.
"""

import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Self

from vol3d.errors import ElsewhereError, RunError

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
GRACE_S = 3600.0
"""The longest that a job waits to be ended by its queue; grace times are shorter."""


class StopSignal:
    """Remembers the number of the first signal that came, 0 before; a context."""

    def __init__(self) -> None:
        self.number = 0
        self.before: dict[int, object] = {}

    def __enter__(self) -> Self:
        self.before = {s: signal.signal(s, self.take) for s in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def take(self, number: int, frame: FrameType | None) -> None:
        """Remember; nothing else may be done in a handler."""
        self.number = self.number or number


NEVER = StopSignal()
"""For a run that nobody interrupts."""


def leave(number: int, run: Path, first: bool, told: Mapping[str, str] = os.environ) -> None:
    """Leave a run that has been saved after a signal, in the way that its queue wants.

    Under SLURM, SIGUSR1 has the job requeued. After SIGTERM the job waits for its end: one that exits
    in the grace time counts as completed and is not called back.

    Args:
        number: of the signal.
        run: the folder of the run, as it is named in what is said.
        first: whether this rank is the one that speaks, to the user and to the queue.
        told: the environment.

    Raises:
        RunError: nobody will call the run back; exit code 128 + the signal's number.
    """
    name, job = signal.Signals(number).name, told.get("SLURM_JOB_ID")
    saved = any((run / "checkpoints").glob("nimg-*"))
    said = f"{run}: {name} came, and " + ("the run is saved" if saved else "nothing was learnt yet")
    if job and number == signal.SIGUSR1:
        problem = requeue(job) if first else None
        if problem is None:
            log.info("%s; job %s is requeued and goes on from there", said, job)
            return
        said += f"; job {job} was not requeued ({problem})"
    elif job:
        log.info("%s; waiting for the queue to end job %s", said, job)
        time.sleep(GRACE_S)
    error = RunError(f"{said}; run again to go on") if first else ElsewhereError(said)
    error.exit_code = 128 + number  # as that of a process which the signal ended
    raise error


def requeue(job: str) -> str | None:
    """Ask SLURM to run a job again; what stood in the way, or None."""
    scontrol = shutil.which("scontrol")
    if scontrol is None:
        return "no scontrol on this machine"
    done = subprocess.run([scontrol, "requeue", job], capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else None
