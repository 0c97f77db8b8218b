"""How fast a device works, measured in about a second, and how long an update takes at that pace."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional
from torch.utils.benchmark import Timer

from vol3d.training.cost_estimate import Cost


@dataclass(frozen=True)
class Throughput:
    """The pace of a device.

    Attributes:
        half: operations a second in bf16.
        single: the same in float32.
        moved: bytes a second.
        call: seconds that any operation takes at least.
    """

    half: float
    single: float
    moved: float
    call: float

    def seconds(self, cost: Cost) -> float:
        """How long an update takes: of each operation the longer of computing and moving."""
        return sum(
            n
            * max(
                w.flops / (self.half if w.dtype == torch.bfloat16 else self.single),
                w.moved / self.moved,
                self.call,
            )
            for w, n in cost.work.items()
        )


NOMINAL = Throughput(half=1e14, single=5e13, moved=1.5e12, call=1e-5)
"""About what a data-centre GPU of 2020 reaches in 3-D convolutions; for ratios only."""


def measure(device: torch.device) -> Throughput:
    """The rates of a device that is at hand: a convolution, a copy and a small sum."""
    half, single = (convolution(t, device) for t in (torch.bfloat16, torch.float32))
    large, small = torch.rand(2**25, device=device), torch.rand(8, device=device)
    other = torch.empty_like(large)
    moved = 2 * large.numel() * large.element_size() / pace(lambda: other.copy_(large))
    return Throughput(half, single, moved, pace(lambda: small + small))


def convolution(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of the largest volume that takes no long time: bf16 may be emulated."""
    w = torch.rand(64, 64, 3, 3, 3, device=device, dtype=dtype)
    w = w.to(memory_format=torch.channels_last_3d)
    for n in (4, 8, 16, 32, 48):
        x = torch.rand(1, 64, n, n, n, device=device, dtype=dtype)
        x = x.to(memory_format=torch.channels_last_3d)
        seconds = pace(partial(functional.conv3d, x, w, padding=1), 0.1)
        if seconds > 0.1:
            break
    return 2 * x.numel() * w[0].numel() / seconds


def pace(work: Callable[[], object], seconds: float = 0.2) -> float:
    """The seconds that some work takes, once it is warm, measured for so long."""
    work()  # which may compile something
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=seconds).mean  # it waits for a GPU
