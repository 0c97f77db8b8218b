"""The contestants of a case: entered, compared, and their work counted."""

from statistics import median

import torch
from torch import Tensor

from benchmarks import ours, theirs
from benchmarks.cases import CASES, MONAI
from benchmarks.contestant import Contestant, inputs
from benchmarks.sizes import SIZES


def enter(who: str, name: str, size: str, device: torch.device) -> Contestant:
    """A contestant in a case: `shipped`, `tuned`, or for ours the name of a case."""
    case, sizes = CASES[name], SIZES[size]
    given = inputs(case.does, getattr(sizes, case.on), sizes)
    if who in MONAI:
        make = theirs.shipped if who == "shipped" else theirs.tuned
        return make(case.net, case.does, given, sizes, device)
    return ours.entered(case.net, case.does, CASES[who].setting, given, sizes, device)


def flop(name: str, size: str) -> int:
    """Floating-point operations of a case: of MONAI's network as written, nothing computed twice.

    Counted without computing anything, on tensors that have no memory.
    """
    from torch.utils.flop_counter import FlopCounterMode

    case, sizes = CASES[name], SIZES[size]
    given = inputs(case.does, getattr(sizes, case.on), sizes)
    on_meta = {k: v.to("meta") for k, v in given.items()}
    net, trains = theirs.build(case.net, sizes), case.does == "train"
    with FlopCounterMode(display=False) as counter:
        Contestant(net, theirs.FORWARD[case.does], on_meta, trains).run()
    return counter.get_total_flops()


def distances(entered: dict[str, Contestant]) -> dict[str, dict[str, float]]:
    """How far each output is from the shipped one, relative to it; and in training the gradients.

    Of the gradients it is the median over the convolutions' weights, and the largest. Calls each
    contestant once.
    """
    outputs = {who: c.run().float().cpu() for who, c in entered.items()}
    found: dict[str, dict[str, float]] = {}
    for who in [w for w in entered if w != "shipped"] if "shipped" in entered else []:
        found[who] = {"output": apart(outputs[who], outputs["shipped"])}
        if entered[who].trains:
            right, mine = entered["shipped"].gradients(), entered[who].gradients()
            off = [apart(mine[k], g) for k, g in right.items() if g.ndim == 5]
            found[who] |= {"gradient_median": median(off), "gradient_largest": max(off)}
    return found


def apart(x: Tensor, y: Tensor) -> float:
    """Relative distance; infinite where something is not a number."""
    off = ((x - y).norm() / y.norm()).item()
    return off if off == off else float("inf")
