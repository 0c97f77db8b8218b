"""Tell the peak memory and time of a training step with each lever, and what fits."""

import logging
import sys

import torch
from pydantic import PositiveFloat, PositiveInt

from vol3d.distributed.ranks import Ranks
from vol3d.errors import RunError
from vol3d.nn.precision import resolve
from vol3d.training.device_memory import GIB, OVERHEADS, free_memory, need_of, peak_of
from vol3d.training.engine import device_of
from vol3d.training.memory_check import of_one_rank
from vol3d.training.planner import Planner, Row, fake_data
from vol3d.training.throughput import NOMINAL, measure
from vol3d.verbs.train import Train

log = logging.getLogger(__name__)


class Plan(Train):
    """Plan a training: vol3d plan CONFIG.yaml gpu_gb=24 [key=value ...]. Nothing is allocated.

    It estimates the step that `vol3d train` would make of the same config, with each setting that
    saves memory, and prints the words of the cheapest that fits. No data are needed where a grid is
    named (data.grid), or a shape.
    """

    gpu_gb: PositiveFloat | None = None
    """Memory of the GPU to plan for, in GiB; without it, what is free on this machine's device."""
    gpus: PositiveInt = 1
    """How many of them share the batch, one process each, on one node or many."""
    shape: tuple[PositiveInt, ...] | None = None
    """Size of the data where there are none yet: [160,224,160] of a scan, [8,40,56,40] of a latent."""

    def execute(self) -> str:
        """Print the table; the words that make it fit (none if it fits as it is)."""
        self.check_data()
        device = torch.device("cuda") if self.gpu_gb else device_of(self.device)
        free = self.gpu_gb * GIB if self.gpu_gb else free_memory(device)
        if free is None:
            raise RunError("this system does not say how much memory is free; give gpu_gb=...")
        at_hand = device.type == "cpu" or torch.cuda.is_available()
        rates = measure(device) if at_hand else NOMINAL
        # A GPU that is not here is taken for one of today, which multiplies bf16.
        asked = self.precision if at_hand or self.precision != "auto" else "bf16"
        decided = self.model_copy(update={"precision": resolve(asked, device)})
        training = of_one_rank(decided, Ranks(world=self.gpus))
        fake = fake_data(self, self.shape)
        planner = Planner(training, fake, device, free, rates, self.gpus)
        rows = planner.plan()
        sys.stdout.write(table(planner, rows, at_hand))
        best = planner.cheapest(rows)
        if best is None:
            least = min(need_of(row.cost, device.type) for row in rows) / GIB
            raise RunError(
                f"nothing fits {free / GIB:.4g} GiB: the least, with what lies beside it, is "
                f"{least:.2f} GiB; take a smaller network, a coarser data.grid, or a larger GPU"
            )
        return best.told


def table(planner: Planner, rows: list[Row], at_hand: bool) -> str:
    """Setting, peak, time, and whether it fits, a line each."""
    device, rates = planner.device.type, planner.rates
    overhead = OVERHEADS[device]
    plain = rates.seconds(rows[0].cost)
    cells = [["setting", "peak GiB", "s/update" if at_hand else "time", "fits"]]
    for row in rows:
        seconds = rates.seconds(row.cost)
        pace = f"{seconds:.3g}" if at_hand else f"x{seconds / plain:.2f}"
        peak = f"{peak_of(row.cost, device) / GIB:.2f}{'*' * (row.cost.validation > row.cost.step)}"
        cells.append([row.told or "(as it is)", peak, pace, "yes" if planner.fits(row) else "no"])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells]
    beside = (overhead.outside + overhead.loose * rows[0].cost.peak) / GIB
    told = (
        "at this device's measured rates" if at_hand else "relative, at a data-centre GPU's rates"
    )
    if any(row.cost.validation > row.cost.step for row in rows):
        lines += ["* while validation people are looked at, on whole volumes; the step takes less."]
    lines += [
        f"Fits: the peak and what lies beside it ({beside:.2f} GiB as it is) in "
        f"{planner.free / GIB:.4g} GiB. Time: {told}."
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"
