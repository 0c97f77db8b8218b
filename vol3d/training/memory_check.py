"""Whether a training fits the memory that is free, told before anything is allocated."""

import logging

from vol3d.distributed.ranks import ALONE, Ranks
from vol3d.errors import ConfigError, Vol3dError
from vol3d.io.reading import first_line
from vol3d.training.device_memory import GIB, free_memory
from vol3d.training.engine import device_of
from vol3d.training.loop import Training, share_of
from vol3d.training.planner import Planner, changed, fake_data
from vol3d.training.throughput import NOMINAL

log = logging.getLogger(__name__)


def of_one_rank(training: Training, ranks: Ranks) -> Training:
    """The training as one of several processes sees it: its share of the batch."""
    share = share_of(training, ranks)
    micro = training.micro_batch
    return changed(training, {"batch": share, "micro_batch": min(micro, share) if micro else None})


def check_memory(training: Training, ranks: Ranks = ALONE) -> None:
    """Refuse a training that the device has no memory for, before anything is allocated.

    Raises:
        ConfigError: it does not fit; with the cheapest words that make it fit.
    """
    device = device_of(training.device)
    free = free_memory(device)
    if free is None:
        log.info("memory: not checked, because this system does not say what is free")
        return
    if device.type == "cpu":
        free /= ranks.local_world
    training = of_one_rank(training, ranks)
    planner = Planner(training, fake_data(training), device, free, NOMINAL, ranks.world)
    try:
        plain = planner.estimate_cost({})
    except Vol3dError:
        raise
    except Exception as error:  # whatever a network of one's own does not do without data
        why = f"{type(error).__name__}: {first_line(error)}"
        log.info("memory: not checked, because the step cannot be estimated (%s)", why)
        return
    if planner.fits(plain):
        log.info("memory: needs %s of %.2f GiB", planner.need(plain), free / GIB)
        return
    rows = planner.plan()
    best, least = planner.cheapest(rows), min(rows, key=lambda row: row.cost.peak)
    remedy = (
        f"add {best.told} ({planner.need(best)})"
        if best
        else f"nothing that vol3d knows makes it fit, the least is {least.told or 'this'} "
        f"({planner.need(least)}): take a smaller network or a coarser grid"
    )
    raise ConfigError(
        f"this training needs {planner.need(plain)} of memory, and the {device.type} has "
        f"{free / GIB:.2f} GiB free; {remedy}, or check_memory=false to try regardless"
    )
