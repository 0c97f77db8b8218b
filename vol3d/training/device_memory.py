"""How much memory a device has, and what training takes of it beside its tensors."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from vol3d.nn.cpu_features import groups_of
from vol3d.training.cost_estimate import Cost

log = logging.getLogger(__name__)
GIB = 2**30


@dataclass(frozen=True)
class Overhead:
    """What is not a tensor; the numbers come from `benchmarks/plan.py calibrate`.

    Attributes:
        fixed: bytes that the libraries of convolutions and products keep, whatever the network.
        workspace: bytes that a convolution works in, as a share of its operands.
        outside: bytes that nobody's allocator sees (on a GPU, CUDA's context and kernels).
        loose: share of the tensors that the allocator loses between them.
    """

    fixed: float
    workspace: float
    outside: float
    loose: float


# CPU: calibrated on five trainings of 0.2 to 0.6 GB; `outside` is what glibc was seen to hold back of
# what is freed, 0.1 to 0.4 GB, unless it is told not to (docs/plan.md), and 0.13 GB that
# numba and its compiler take at the first call. CUDA: on an H100, four trainings of 0.06 to 3 GB, `fixed`
# is 0 to 48 MB; `outside` is a context of the usual size, `loose` a guess.
OVERHEADS = {
    "cpu": Overhead(fixed=34e6, workspace=0.0, outside=0.5e9, loose=0.0),
    "cuda": Overhead(fixed=32e6, workspace=0.0, outside=0.6e9, loose=0.05),
}


def peak_of(cost: Cost, device: str) -> float:
    """The bytes that a measurement of the peak would find: tensors and workspaces."""
    overhead = OVERHEADS[device]
    return cost.peak + overhead.fixed + overhead.workspace * cost.largest


def need_of(cost: Cost, device: str) -> float:
    """The bytes that a device must have free."""
    overhead = OVERHEADS[device]
    return peak_of(cost, device) + overhead.loose * cost.peak + overhead.outside


def free_memory(device: torch.device) -> float | None:
    """The bytes that are free on a device; None where nobody says."""
    if device.type == "cuda":
        # The context is there already, and no longer free; `need_of` counts it.
        return float(torch.cuda.mem_get_info(device)[0]) + OVERHEADS["cuda"].outside
    if device.type != "cpu":
        return None
    amounts = [available_memory(Path("/proc/meminfo")), *free_in_cgroups(Path("/proc/self/cgroup"))]
    known = [amount for amount in amounts if amount is not None]
    return min(known, default=None)


def available_memory(meminfo: Path) -> float | None:
    """What Linux thinks could be had without swapping."""
    try:
        lines = meminfo.read_text().splitlines()
        return next(float(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None


def free_in_cgroups(told: Path, mount: Path = Path("/sys/fs/cgroup")) -> list[float]:
    """What is left in each control group that this process is in; see `groups_of`."""
    amounts = map(free_in_group, groups_of("memory", told, mount))
    return [free for free in amounts if free is not None]


def free_in_group(group: Path) -> float | None:
    """The limit of one control group less what is in use, files that could be dropped aside."""
    names = ("memory.max", "memory.current", "inactive_file")
    if (group / "memory.limit_in_bytes").is_file():
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    limit, usage, droppable = names
    try:
        allowed = float((group / limit).read_text())  # "max" is no number
        used = float((group / usage).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return allowed - used + float(stat.get(droppable, 0))
