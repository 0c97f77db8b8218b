"""What follows from a report: what precision=auto is, and what would be faster on this machine."""

import os
import re
from collections.abc import Iterator, Mapping

import torch

from vol3d.diagnosis.machine import cpu_quota, why_none
from vol3d.diagnosis.report_lines import ask
from vol3d.errors import RunError
from vol3d.io.cores import own_cores
from vol3d.nn.cpu_features import cpu_flags
from vol3d.nn.precision import UNITS, cap, kind, resolve, units_of, why

CLEARLY = 1.1
"""Times are told apart where one is so many times the other."""


def conclusion(device: torch.device, trial: Mapping[str, str]) -> str:
    """Two lines: what auto is and why, and what would be faster by the lines of a trial."""
    faster = "; ".join(advice(device, trial))
    faster = faster or f"nothing that we know of, but a faster {kind(device)}"
    return f"precision=auto is {why(device)}.\nFaster would be: {faster}."


def advice(device: torch.device, trial: Mapping[str, str]) -> Iterator[str]:
    """What the machine has and this process does not use; then what it lacks."""
    yield from other_precision(resolve("auto", device), trial)
    if device.type == "cpu":
        yield from a_gpu()
        yield from other_threads(torch.get_num_threads(), cores())
        if set(UNITS) & cpu_flags() and not units_of(device):
            yield f"bf16, without ONEDNN_MAX_CPU_ISA={cap()} in the environment"
    if not units_of(device):
        yield "a GPU from Ampere on" + " or a CPU with AMX" * (device.type == "cpu") + ", for bf16"


def other_precision(auto: str, trial: Mapping[str, str]) -> Iterator[str]:
    """The precision that auto is not, where the trial was faster in it."""
    other = {"bf16": "fp32", "fp32": "bf16"}[auto]
    for name in dict.fromkeys(n.rpartition(", ")[0] for n in trial if ", " in n):
        ours, theirs = (pace(trial.get(f"{name}, {p}", "")) for p in (auto, other))
        if ours and theirs and ours > CLEARLY * theirs:
            yield f"precision={other} for the {name} ({theirs:g} s a step, {ours:g} s in {auto})"


def pace(line: str) -> float | None:
    """The seconds a step in a line of the trial."""
    found = re.match(r"works: (\S+) s a step", line)
    return float(found[1]) if found else None


def a_gpu() -> Iterator[str]:
    """One that is here, and not used."""
    if torch.cuda.is_available():
        yield "device=cuda"
        return
    try:
        listed = ask("nvidia-smi", "-L")
    except RunError:  # the report says so
        return
    if listed:
        yield f"the GPU, which torch does not see ({why_none()})"


def cores() -> float:
    """Of how many cores this process may have the time."""
    return min(own_cores(), cpu_quota() or float("inf"))


def other_threads(used: int, allowed: float) -> Iterator[str]:
    """As many threads as cores; torch itself takes one of two that share a core, and that is well."""
    if used > allowed or ("OMP_NUM_THREADS" in os.environ and used < allowed):
        yield f"OMP_NUM_THREADS={max(1, int(allowed))} (torch uses {used}, {allowed:g} cores are ours)"
