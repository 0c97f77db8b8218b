"""One measurement in a process of its own: asked for as JSON, answered as JSON on the last line.

Used by `benchmarks.run`, which starts a fresh process for everything it wants to know.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine, race, timing
from benchmarks.memory import Peak, first_to_go
from benchmarks.sizes import SIZES

Asked = dict[str, Any]


def describe(asked: Asked, device: torch.device) -> Asked:
    """The machine, and the fastest that it can do."""
    product = timing.matrix_product(asked["size"], device)
    return {"machine": machine.describe(device), "matrix_product": product}


def memory(asked: Asked, device: torch.device) -> Asked:
    """The peak of one contestant, from the imports on."""
    peak = Peak(device)
    contestant = race.enter(asked["who"], asked["case"], asked["size"], device)
    if device.type == "cuda":
        contestant.run()
        peak.settle()
    contestant.run()
    return {"peak_gib": peak.gib()}


def times(asked: Asked, device: torch.device) -> Asked:
    """Contestants in turns, after one call each, whose outputs are compared."""
    entered = {w: race.enter(w, asked["case"], asked["size"], device) for w in asked["who"]}
    distance = race.distances(entered)
    taken = timing.in_turns({who: c.run for who, c in entered.items()}, device)
    return {
        "seconds": {who: [round(t, 6) for t in all_of] for who, all_of in taken.items()},
        "distance": distance,
        "tflop": race.flop(asked["case"], asked["size"]) / 1e12,
    }


def train_whole(asked: Asked, device: torch.device) -> Asked:
    """A whole training step, and its peak."""
    from benchmarks import whole

    peak = Peak(device)
    return {**whole.train_whole(SIZES[asked["size"]], device), "peak_gib": peak.gib()}


def bundle(asked: Asked, device: torch.device) -> Asked:
    """The generator that `sample` loads, so that its making does not count."""
    from benchmarks import whole

    whole.write_generator(SIZES[asked["size"]], Path(asked["folder"]))
    return {}


def sample(asked: Asked, device: torch.device) -> Asked:
    """A sample from noise to NIfTI, and its peak."""
    from benchmarks import whole

    peak = Peak(device)
    return {**whole.sample(Path(asked["folder"]), device), "peak_gib": peak.gib()}


WHAT: dict[str, Callable[[Asked, torch.device], Asked]] = {
    "describe": describe,
    "memory": memory,
    "times": times,
    "train-whole": train_whole,
    "bundle": bundle,
    "sample": sample,
}


def main() -> None:
    """Answer one request; memory that runs out is an answer as well."""
    asked = json.loads(sys.argv[1])
    first_to_go()
    try:
        answer = WHAT[asked["what"]](asked, torch.device(asked["device"]))
    except (MemoryError, torch.OutOfMemoryError):
        answer = {"does_not_fit": True}
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        answer = {"does_not_fit": True}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
