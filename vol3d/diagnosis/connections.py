"""What connects GPUs and nodes, and what started this process."""

import os
import re
import resource
from pathlib import Path

from vol3d.diagnosis.report_lines import Lines, ask

QUEUE = """
SLURM_NNODES SLURM_NTASKS SLURM_NTASKS_PER_NODE SLURM_TASKS_PER_NODE SLURM_CPUS_PER_TASK
SLURM_CPUS_ON_NODE SLURM_MEM_PER_NODE SLURM_MEM_PER_CPU SLURM_GPUS SLURM_GPUS_ON_NODE SLURM_GPUS_PER_NODE
SLURM_GPUS_PER_TASK SLURM_NODEID SLURM_PROCID SLURM_LOCALID SLURM_RESTART_COUNT RANK LOCAL_RANK
WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK MASTER_PORT TORCHELASTIC_RESTART_COUNT
"""
"""What is told of the environment of a job: numbers, no names."""


def backends() -> Lines:
    """What torch.distributed could speak."""
    from torch import distributed as dist

    if not dist.is_available():
        yield "torch.distributed", "not in this build of torch"
        return
    has = {name: getattr(dist, f"is_{name}_available")() for name in ("gloo", "nccl", "mpi", "ucc")}
    yield "torch.distributed", ", ".join(name for name, there in has.items() if there)
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    amount = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit / 2**20:.3g} MiB"
    yield "locked memory", amount


def topology() -> Lines:
    """How GPUs and network cards are connected."""
    matrix = re.sub(r"\x1b\[\d*m", "", ask("nvidia-smi", "topo", "-m") or "")
    for i, line in enumerate(line for line in matrix.split("\nLegend")[0].splitlines() if line):
        yield "" if i else "topology", line.expandtabs()


def cards() -> Lines:
    """InfiniBand ports and network interfaces."""
    ports = sorted(Path("/sys/class/infiniband").glob("*/ports/*"))
    for port in ports:
        values = [(port / name).read_text().strip() for name in ("link_layer", "state", "rate")]
        yield "InfiniBand", f"{port.parts[-3]} port {port.name}: {', '.join(values)}"
    if not ports:
        yield "InfiniBand", "no devices"
    up = [
        f"{card.name} {(card / 'operstate').read_text().strip()}"
        for card in sorted(Path("/sys/class/net").iterdir())
        if card.is_dir() and not card.name.startswith("veth")
    ]
    yield "interfaces", ", ".join(up)


def queue() -> Lines:
    """What Slurm and torchrun say of this process; which job and whose it is, is left out."""
    inside = [name for name in QUEUE.split() if name in os.environ]
    if not inside:
        yield "queue", "none: neither a Slurm job, nor started by torchrun"
    for name in inside:
        yield name, os.environ[name]
    if "MASTER_ADDR" in os.environ:
        yield "MASTER_ADDR", "is set"
    if job := os.environ.get("SLURM_JOB_ID"):
        yield "time left", ask("squeue", "-h", "-j", job, "-O", "TimeLeft") or "no squeue here"
