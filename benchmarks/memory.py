"""Peak memory of this process, which does nothing else.

On a CPU it is the high-water mark of the resident memory, less what was resident after the imports;
on a GPU the peak of torch's allocator. Weights and inputs are counted, for all contestants alike.
"""

import gc
import resource
import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


def resident(field: str) -> int:
    """Bytes: VmRSS is resident now, VmHWM was at most."""
    if STATUS.is_file():
        line = next(x for x in STATUS.read_text().splitlines() if x.startswith(field))
        return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


class Peak:
    """The high-water mark from its making (after the imports, beside others) until it is read."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        on_gpu = device.type == "cuda"
        self.before = torch.cuda.memory_allocated() if on_gpu else resident("VmRSS")

    def settle(self) -> None:
        """On a GPU, forget what was only needed to find the fastest kernels, and what others took."""
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def gib(self) -> float:
        """So much at most."""
        if self.device.type == "cuda":
            return (torch.cuda.max_memory_allocated() - self.before) / 2**30
        return (resident("VmHWM") - self.before) / 2**30


def first_to_go() -> None:
    """Where memory runs out, Linux ends this process before any other of the user's."""
    score = Path("/proc/self/oom_score_adj")
    if score.is_file():
        score.write_text("1000")
