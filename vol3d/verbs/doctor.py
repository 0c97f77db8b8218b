"""Tell what a bug report needs to know of this machine, and try a training step."""

import os
import sys
from pathlib import Path
from typing import ClassVar

from vol3d.config import Config
from vol3d.diagnosis.connections import backends, cards, queue, topology
from vol3d.diagnosis.machine import disk, gpus, memory, processor, shared_memory
from vol3d.diagnosis.report_lines import FAILED, Lines, scrubbed, told
from vol3d.diagnosis.software import commit, deepspeed, environment, system, torch_build, versions
from vol3d.errors import RunError


class Doctor(Config):
    """Check this machine: vol3d doctor [run=FOLDER] [device=cpu]. Paste what it prints in a bug report.

    A report is public, so names of people and hosts, addresses and paths are left out. No network is
    touched; within a Slurm job, squeue asks the cluster for the time that is left.
    """

    positional: ClassVar[tuple[str, ...]] = ()
    run: Path | None = None
    """A folder, such as that of the run which failed, whose disk is to be tried as well."""
    device: str = "auto"
    """Where the training step is tried: auto, cpu, cuda or cuda:1."""

    def checks(self) -> dict[str, list[Lines]]:
        """What is checked, in this order; nothing is done before its lines are asked for."""
        return {
            "Versions": [versions(), commit(), system(), torch_build()],
            "Devices": [processor(), memory(), gpus()],
            "Interconnect": [backends(), topology(), cards()],
            "Queue and environment": [queue(), environment()],
            "DeepSpeed": [deepspeed()],
            "Disk": [disk(self.run), shared_memory()],
            "Trial step": [trial(self.device)],
        }

    def execute(self) -> str:
        """Print each check as it is made, lest a crash in a later one take it along; the conclusion."""
        rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0"
        if rank != "0":
            return f"(process {rank} leaves the report to process 0)"
        lines: list[tuple[str, str]] = []
        for title, checks in self.checks().items():
            say(title)
            lines = []
            for name, value in (line for check in checks for line in told(check)):
                lines.append((name, scrubbed(value)))
                say(f"  {name:27}{lines[-1][1]}")
            say("")
        failed = [f"{name} {value}" for name, value in lines if value.startswith(FAILED)]
        if failed:
            raise RunError(f"the trial step did not work: {'; '.join(failed)}")
        from vol3d.diagnosis.conclusion import conclusion
        from vol3d.training.engine import device_of

        return f"The trial step worked.\n{conclusion(device_of(self.device), dict(lines))}"


def trial(device: str) -> Lines:
    """A few real training steps of small networks."""
    from vol3d.diagnosis.trial_training import trials
    from vol3d.nn.precision import why
    from vol3d.training.engine import device_of

    where = device_of(device)
    yield "device", str(where)
    yield "precision=auto", why(where)
    for name, lines in trials(where):
        yield from told(lines, name)


def say(line: str) -> None:
    """One line on stdout, at once."""
    sys.stdout.write(f"{line.rstrip()}\n")
    sys.stdout.flush()
