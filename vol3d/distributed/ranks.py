"""The processes of a run: who started them, which of them this one is, and how they agree.

`torchrun`, `srun` and `deepspeed` start the same command many times; a process that nobody else was
started with is a run of one, and nothing here costs it anything.
"""

import contextlib
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from vol3d.distributed.heartbeat import Heartbeat
from vol3d.errors import ConfigError, ElsewhereError, Vol3dError

T = TypeVar("T")
MEETING = timedelta(minutes=10)
"""How long the first wait for the last to start."""
BUCKET = 50_000_000
"""Values that are sent at a time, 200 MB."""
PATIENCE = timedelta(hours=6)
"""How long the others wait for one that lives but is slow: previews, a checkpoint, a first read.
One that has died is noticed by the heartbeat, in seconds."""


@dataclass(frozen=True)
class Ranks:
    """Which process of a run this is.

    Attributes:
        rank: its number; 0 is the first, which writes and talks.
        world: how many there are.
        local_rank: its number on this machine, and of its GPU.
        local_world: how many there are on this machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes and talks."""
        return self.rank == 0

    def add_up(self, tensors: list[Tensor]) -> None:
        """Replace float tensors of one device by their sums over all ranks."""
        for some in in_buckets(tensors) if self.world > 1 else ():
            together = some[0].new_empty(sum(t.numel() for t in some))  # one message, not hundreds
            pieces = together.split([t.numel() for t in some])
            for t, piece in zip(some, pieces, strict=True):
                piece.view(t.shape).copy_(t)
            distributed.all_reduce(together)
            for t, piece in zip(some, pieces, strict=True):
                t.copy_(piece.view(t.shape))

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, of one shape, joined along the first axis in order of rank."""
        if self.world == 1:
            return tensor
        found = [torch.empty_like(tensor) for _ in range(self.world)]
        distributed.all_gather(found, tensor.contiguous())
        return torch.cat(found)

    def largest(self, number: int) -> int:
        """The largest of the numbers that the ranks have; no GPU is waited for."""
        if self.world == 1:
            return number
        found = torch.tensor(number)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return int(found)

    def alone(self, act: Callable[[], T]) -> T:
        """What the first rank gets from an act that the others must not do; they wait for it.

        Raises:
            Vol3dError: the act failed; told by the first rank alone.
        """
        if self.world == 1:
            return act()
        told, failure = [None, None], None
        if self.first:
            try:
                told[0] = act()
            except Vol3dError as error:
                told[1], failure = str(error), error
        # Plain words and numbers of our own processes, so that pickling them is no danger.
        distributed.broadcast_object_list(told, src=0, device=torch.device("cpu"))
        if told[1] is not None:
            raise failure or ElsewhereError(told[1])
        return told[0]


ALONE = Ranks()


def in_buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, some at a time, of `BUCKET` values or a single larger one."""
    some: list[Tensor] = []
    for tensor in tensors:
        if some and sum(t.numel() for t in some) + tensor.numel() > BUCKET:
            yield some
            some = []
        some.append(tensor)
    if some:
        yield some


def launched(told: Mapping[str, str] = os.environ) -> Ranks:
    """Which process this is, by what torchrun, deepspeed or srun say; half of it is a ConfigError."""
    if "RANK" in told and "WORLD_SIZE" in told:  # torchrun and deepspeed
        rank, world = int(told["RANK"]), int(told["WORLD_SIZE"])
        local, near = told.get("LOCAL_RANK", "0"), told.get("LOCAL_WORLD_SIZE")
        near = near or told.get("LOCAL_SIZE") or world
        return Ranks(rank, world, int(local), int(near))
    # In an sbatch script SLURM_PROCID is set too, but only srun starts a step of several tasks.
    if int(told.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        try:
            rank, local = int(told["SLURM_PROCID"]), int(told["SLURM_LOCALID"])
            near = tasks_per_node(told["SLURM_STEP_TASKS_PER_NODE"])[int(told["SLURM_NODEID"])]
        except (KeyError, ValueError, IndexError) as error:
            raise ConfigError(
                f"srun: its environment lacks {error}; start with torchrun instead"
            ) from None
        return Ranks(rank, int(told["SLURM_STEP_NUM_TASKS"]), local, near)
    return ALONE


def tasks_per_node(text: str) -> list[int]:
    """SLURM's short form in full: 2(x3),1 is 2, 2, 2, 1."""
    found = []
    for part in text.split(","):
        tasks, times = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part).groups()
        found += [int(tasks)] * int(times or 1)
    return found


def first_node(nodes: str) -> str:
    """The first machine of SLURM's list of them: gpu[03-05,9],login is gpu03."""
    name, rest = re.fullmatch(r"([^\[,]*)(.*)", nodes).groups()
    if not name:
        raise ConfigError("nobody says where the processes meet; set MASTER_ADDR and MASTER_PORT")
    if not rest.startswith("["):
        return name
    return name + re.match(r"\[(\d+)", rest).group(1)


def meeting_place(told: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Machine and port where the ranks meet; MASTER_ADDR and MASTER_PORT win where they are set."""
    address = told.get("MASTER_ADDR") or first_node(told.get("SLURM_STEP_NODELIST", ""))
    # Below the ports that systems hand out by themselves, and another one for each job and step.
    step = int(told.get("SLURM_JOB_ID", "0")) * 7 + int(told.get("SLURM_STEP_ID", "0"))
    return address, int(told.get("MASTER_PORT") or 12000 + step % 20000)


def gpu_of(ranks: Ranks) -> int:
    """The GPU of this process, made its own; its only one where the queue shows it no other."""
    found = torch.cuda.device_count()
    index = 0 if found == 1 else ranks.local_rank
    if index >= found or (found == 1 and "SLURM_STEP_ID" not in os.environ and ranks.local_rank):
        raise ConfigError(
            f"{ranks.local_world} processes on {socket.gethostname()}, which shows this one {found} "
            f"GPUs; start as many as there are"
        )
    torch.cuda.set_device(index)
    return index


def backend(on_gpu: bool) -> str:
    """What carries tensors between processes: NCCL those on GPUs, gloo all others."""
    return "cpu:gloo,cuda:nccl" if on_gpu else "gloo"


@contextlib.contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Meet the other ranks, work together, and part; a rank that dies ends them all.

    Args:
        device: the setting of that name. On GPUs each rank has its own, by its number on the machine.

    Raises:
        ConfigError: they did not find each other.
    """
    ranks = launched()
    if ranks.world == 1:
        yield ranks
        return
    if re.fullmatch(r"cuda:\d+", device):
        raise ConfigError(
            f"device={device}: each of {ranks.world} processes has its own; take cuda"
        )
    address, port = meeting_place()
    on_gpu = torch.cuda.is_available() and device != "cpu"
    gpu = gpu_of(ranks) if on_gpu else ranks.local_rank
    told = {"MASTER_ADDR": address, "MASTER_PORT": port, "RANK": ranks.rank}
    told |= {"WORLD_SIZE": ranks.world, "LOCAL_RANK": gpu}
    os.environ.update({k: str(v) for k, v in told.items()})  # DeepSpeed reads it there
    try:
        store, _, _ = next(distributed.rendezvous("env://", timeout=MEETING))
        distributed.init_process_group(
            backend(on_gpu),
            store=store,
            rank=ranks.rank,
            world_size=ranks.world,
            timeout=PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"rank {ranks.rank} of {ranks.world} did not reach {address}:{port} "
            f"({str(error).splitlines()[0]}); set MASTER_ADDR to the first machine's address, and "
            f"MASTER_PORT to a port that is free there"
        ) from None
    if not ranks.first:  # one voice
        logging.getLogger().setLevel(logging.ERROR)
    speaks = ranks.local_rank == 0 or ranks.rank == 1
    heartbeat = Heartbeat(address, port, ranks.rank, ranks.world, speaks)
    with heartbeat:
        if ranks.largest(int(on_gpu)) > int(on_gpu) and device != "cpu":
            raise ConfigError(
                f"rank {ranks.rank} on {socket.gethostname()} has no GPU that works, and others have"
            )
        yield ranks
        heartbeat.part(lambda: ranks.largest(0))
    distributed.destroy_process_group()
