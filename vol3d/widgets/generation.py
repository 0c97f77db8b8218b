"""Brains on request, shown while they come: what the Generate widget does, without a window.

A brain is drawn alone here, so that it is shown as soon as can be. `vol3d generate` draws several at a
time, which may change voxels in the last bits; what is saved is drawn by that (`cohort_of`).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vol3d.data.covariate_types import Number, Row
from vol3d.data.covariates import Covariates
from vol3d.errors import ConfigError
from vol3d.io.cores import own_cores
from vol3d.io.progress import heard_by
from vol3d.trained import TrainedGenerator
from vol3d.trained.generated_cohort import Planned
from vol3d.verbs.generate import Generate
from vol3d.verbs.train import generator_at
from vol3d.viewer.stopping import Teller
from vol3d.viewer.watched import watched
from vol3d.volume import Grid, Volume

PREVIEWS_SHARE = 0.2
"""Of the time of sampling, what previews may take."""


@dataclass(frozen=True)
class Sweep:
    """One covariate that goes through values, while all others stay.

    Attributes:
        name: of the covariate.
        values: evenly spaced numbers.
    """

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        asked: covariates by name; None, or not there, is not asked for.
        seeds: a brain each.
        sampler: changes to the model's sampler.
        sweep: then the first seed alone is drawn, once for each value.
    """

    asked: Row
    seeds: tuple[int, ...] = (0,)
    sampler: Mapping[str, Any] = field(default_factory=dict)
    sweep: Sweep | None = None


@dataclass(frozen=True)
class Brain:
    """What was drawn, or how far it is.

    Attributes:
        number: its place in the plan.
        volume: the image or label map.
        seed: that it is of.
        asked: what was asked for.
        row: its covariates, complete.
    """

    number: int
    volume: Volume
    seed: int
    asked: Row
    row: Row


def open_model(bundle: Path) -> TrainedGenerator:
    """The generator at a path, on the CPU or the GPU; `ready` is the one that comes with vol3d."""
    spare_a_core()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TrainedGenerator(generator_at(bundle), device, {"micro_batch": 1})


def spare_a_core() -> None:
    """Leave one core to the window, in this thread and those that it computes with."""
    torch.set_num_threads(max(1, own_cores() - 1))


def plan(model: TrainedGenerator, request: Request) -> list[Planned]:
    """Seed, what is asked for, and the complete row of each brain.

    In a sweep, what is not asked for is drawn once, at the first value, and stays.

    Raises:
        ConfigError: an unknown covariate or level, or text where a number is due.
    """
    if not (sweep := request.sweep):
        asked = model.schema.check(request.asked)
        return [(seed, asked, model.complete(asked, seed)) for seed in request.seeds]
    if not isinstance(model.schema[sweep.name], Number):
        raise ConfigError(f"sweep: '{sweep.name}' is a category; a number is due")
    seed = request.seeds[0]
    first = model.schema.check({**request.asked, sweep.name: sweep.values[0]})
    row = model.complete(first, seed)
    return [
        (seed, {**first, sweep.name: value}, {**row, sweep.name: value}) for value in sweep.values
    ]


def draw(model: TrainedGenerator, request: Request, tell: Teller) -> list[Brain]:
    """Draw what is asked for, one after the other, and show each while it comes.

    Args:
        model: see `open_model`.
        request: what is asked for.
        tell: is shown `Brain`s: the estimate of one every now and then, and last the brain itself. It is
            asked before each call of the network whether to end.

    Raises:
        StoppedError: it was told to end.
        ConfigError: see `plan`, and `TrainedGenerator.sampling`.
    """
    spare_a_core()
    model = model.sampling({**request.sampler, "micro_batch": 1})
    planned = plan(model, request)
    made: list[Brain] = []
    for number, (seed, asked, row) in enumerate(planned):
        words = f"brain {number + 1} of {len(planned)}"
        grid = model.grid_of(row)

        def brain(x0: Tensor, number=number, seed=seed, asked=asked, row=row, grid=grid) -> Brain:
            return Brain(number, volume_of(model, x0, grid), seed, asked, row)

        def seen(share: float, shown: Brain | None, number=number, words=words) -> None:
            tell((number + share) / len(planned), words, shown)

        around = watched(tell.check, Previews(model, brain, seen))
        x0 = model.draw([row], [seed], [{}], grid, around)
        made.append(brain(x0))
        seen(1.0, made[-1])
    return made


def volume_of(model: TrainedGenerator, x0: Tensor, grid: Grid) -> Volume:
    """What was drawn, [1, C, x, y, z], as a volume."""
    x = model.volumes(x0, grid)[0, 0].cpu().numpy()
    code = model.fingerprint["space_code"]
    return Volume(x.astype(np.uint8) if model.codec.is_labels else x, grid.affine, code)


class Previews:
    """Counts the calls of a denoiser, and decodes its estimates as often as `PREVIEWS_SHARE` allows.

    Args:
        model: that draws.
        brain: makes of an estimate [1, C, x, y, z] what is shown.
        seen: is told the share that is done, and what can be shown or None.
    """

    def __init__(
        self,
        model: TrainedGenerator,
        brain: Callable[[Tensor], Brain],
        seen: Callable[[float, Brain | None], None],
    ) -> None:
        self.total, self.calls = model.sampler.solver.calls(model.sampler.steps), 0
        self.brain, self.seen, self.next_at = brain, seen, 0.0

    def __call__(self, D: Tensor) -> None:
        """Tell how far it is, with the estimate where that is due: the first one always is."""
        self.calls += 1
        began, shown = time.monotonic(), None
        if began >= self.next_at and self.calls < self.total:
            shown = self.brain(D)
            now = time.monotonic()
            self.next_at = now + (now - began) * (1 / PREVIEWS_SHARE - 1)
        self.seen(min(self.calls / self.total, 0.99), shown)


def told_of(model: TrainedGenerator, brain: Brain) -> dict[str, Any]:
    """Where a brain came from, as its layer keeps it."""
    return {
        "seed": brain.seed,
        "asked": {k: v for k, v in brain.asked.items() if v is not None},
        "covariates": brain.row,
        "model": model.checksum,
        "sampler": model.sampler.dump(),
    }


def doubts(schema: Covariates, asked: Row) -> list[str]:
    """Warnings for what lies outside the training range."""
    return schema.doubts(schema.check(asked))


def cohort_of(bundle: Path, out: Path, request: Request, segmenter: Path | None = None) -> Generate:
    """The `vol3d generate` that makes these brains as a cohort.

    Raises:
        ConfigError: of a sweep, whose brains share a seed; or seeds are not one after the other.
    """
    first = request.seeds[0]
    if request.sweep:
        raise ConfigError(
            "a sweep is of one seed, and in a cohort each brain has its own; turn the sweep off"
        )
    assert request.seeds == tuple(range(first, first + len(request.seeds)))
    return Generate.parse(
        {
            "bundle": bundle,
            "out": out,
            "n": len(request.seeds),
            "seed": first,
            "ask": {k: v for k, v in request.asked.items() if v is not None},
            "sampler": dict(request.sampler),
            "segmenter": segmenter,
        }
    )


def make_cohort(verb: Generate, tell: Teller) -> Path:
    """Run it, and tell how far it is; it can be stopped at each call of the network."""
    spare_a_core()
    with heard_by(lambda title, done, total: tell(done / max(total, 1), f"{title} {done}/{total}")):
        return verb.execute(watched(tell.check))
