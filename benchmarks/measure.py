"""Measurements in a process of their own: asked for in a line of JSON, answered in lines of JSON.

Each line is all that is known so far, so that one who stops listening has lost nothing. Used by
`benchmarks.run`.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import machine, ours, race, timing
from benchmarks.cases import END, SWEPT
from benchmarks.contestant import Contestant, inputs
from benchmarks.memory import Peak, first_to_go
from benchmarks.sizes import SIZES
from vol3d.nn.precision import resolve
from vol3d.nn.slab_conv import SLAB

Asked = dict[str, Any]
Answers = Iterator[Asked]
SHARES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4)
"""Sizes of slabs that are tried, as shares of the usual one."""


def describe(asked: Asked, device: torch.device) -> Answers:
    """The machine, and the fastest that it can do."""
    told = {"machine": machine.describe(device)}
    yield told
    product = timing.matrix_product(asked["size"], device, resolve("auto", device))
    yield {**told, "matrix_product": product}


def memory(asked: Asked, device: torch.device) -> Answers:
    """The peak of one contestant, from the imports on."""
    peak = Peak(device)
    race.enter(asked["who"], asked["case"], asked["size"], device).run()
    yield {"peak_gib": {asked["who"]: peak.gib()}}


def times(asked: Asked, device: torch.device) -> Answers:
    """Contestants in turns, after one call each, whose outputs are compared."""
    entered = {w: race.enter(w, asked["case"], asked["size"], device) for w in asked["who"]}
    yield from compared(asked, device, entered)


def both(asked: Asked, device: torch.device) -> Answers:
    """Peaks and then times, for a GPU: its allocator tells what one contestant takes beside others.

    The peak is that of a second call; what does not fit is left out.
    """
    entered: dict[str, Contestant] = {}
    peaks: dict[str, float] = {}
    for who in asked["who"]:
        peak = Peak(device)
        try:
            contestant = race.enter(who, asked["case"], asked["size"], device)
            contestant.run()
            peak.settle()
            contestant.run()
        except torch.OutOfMemoryError:
            contestant = None
            peak.settle()
            continue
        entered[who], peaks[who] = contestant, peak.gib()
        yield {"peak_gib": peaks}
    for told in compared(asked, device, entered):
        yield {"peak_gib": peaks, **told}


def compared(asked: Asked, device: torch.device, entered: dict[str, Contestant]) -> Answers:
    """How far apart contestants are, and their times."""
    distance = race.distances(entered)
    told = {"distance": distance, "tflop": race.flop(asked["case"], asked["size"]) / 1e12}
    calls, at_most = {who: c.run for who, c in entered.items()}, turns_of(asked)
    for taken in timing.turns(calls, device, at_most):
        yield {"seconds": {w: [round(t, 6) for t in all_of] for w, all_of in taken.items()}, **told}


def turns_of(asked: Asked) -> int:
    """Turns of a race at most; at the small size it is enough that it runs."""
    return timing.AT_MOST if asked["size"] == "full" else timing.AT_LEAST


def slabs(asked: Asked, device: torch.device) -> Answers:
    """Ours with slabs of several sizes; peaks on a GPU only."""
    sizes, usual, found = SIZES[asked["size"]], SLAB[device.type], {}
    for name, case in SWEPT[device.type].items():
        given = inputs(case.does, getattr(sizes, case.on), sizes)
        for share in SHARES:
            SLAB[device.type] = int(usual * share)
            # Anew, since a GPU would play back the call with the slabs of before.
            contestant = None
            peak = Peak(device)
            contestant = ours.entered(case.net, case.does, case.setting, given, sizes, device)
            contestant.run()
            peak.settle()
            contestant.run()
            at_most = min(3, turns_of(asked))
            taken = timing.in_turns({name: contestant.run}, device, at_most)[name]
            told = {"mib": usual * share / 2**20, "seconds": median(taken)}
            if device.type == "cuda":
                told["peak_gib"] = peak.gib()
            found.setdefault(name, []).append(told)
            yield {"usual_mib": usual / 2**20, "slabs": found}
        SLAB[device.type], contestant = usual, None


def train_whole(asked: Asked, device: torch.device) -> Answers:
    """A whole training step, and its peak."""
    from benchmarks import whole

    peak = Peak(device)
    yield {**whole.train_whole(SIZES[asked["size"]], device), "peak_gib": peak.gib()}


def bundle(asked: Asked, device: torch.device) -> Answers:
    """The generator that `sample` loads, so that its making does not count."""
    from benchmarks import whole

    whole.write_generator(SIZES[asked["size"]], Path(asked["folder"]))
    yield {}


def sample(asked: Asked, device: torch.device) -> Answers:
    """A sample from noise to NIfTI, and its peak."""
    from benchmarks import whole

    peak = Peak(device)
    yield {**whole.sample(Path(asked["folder"]), device), "peak_gib": peak.gib()}


WHAT: dict[str, Callable[[Asked, torch.device], Answers]] = {
    "describe": describe,
    "memory": memory,
    "times": times,
    "both": both,
    "slabs": slabs,
    "train-whole": train_whole,
    "bundle": bundle,
    "sample": sample,
}


def main() -> None:
    """Answer what is asked, until nothing more is."""
    first_to_go()
    for line in sys.stdin:
        answer(json.loads(line))
        print(END, flush=True)


def answer(asked: Asked) -> None:
    """Answer one request; memory that runs out is an answer as well."""
    try:
        for told in WHAT[asked["what"]](asked, torch.device(asked["device"])):
            print(json.dumps(told), flush=True)
    except (MemoryError, torch.OutOfMemoryError):
        print(json.dumps({"does_not_fit": True}))
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        print(json.dumps({"does_not_fit": True}))


if __name__ == "__main__":
    main()
