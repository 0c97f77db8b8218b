"""Which settings fit a device: every lever estimated, and the cheapest setting that fits."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from vol3d.config import flat, lay
from vol3d.data.fake import FakeImages, FakeLatents, largest_shape
from vol3d.data.latents import LatentImages
from vol3d.errors import ConfigError
from vol3d.training.cost_estimate import Cost, Done, estimate_cost
from vol3d.training.device_memory import GIB, need_of
from vol3d.training.loop import Training
from vol3d.training.throughput import Throughput

log = logging.getLogger(__name__)
FakeData = FakeImages | FakeLatents | LatentImages


@dataclass(frozen=True)
class Lever:
    """A setting that trades time for memory.

    Attributes:
        key: its name in a config; a training whose settings lack it has no such lever.
        values: from the training, what else it could be, the mildest first.
        changes: whether another model is learnt, so that it is pulled when nothing else helps.
    """

    key: str
    values: Callable[[Training], list[Any]]
    changes: bool = False


def smaller_passes(training: Training) -> list[int]:
    """The divisors of the batch below the size of a pass, largest first."""
    now = training.micro_batch or training.batch
    return [n for n in range(now - 1, 0, -1) if training.batch % n == 0]


def more_shared_out(training: Training) -> list[dict[str, Any]]:
    """The stages of ZeRO beyond the present one."""
    now = getattr(training.engine, "stage", 0)
    return [{"kind": "deepspeed", "stage": stage} for stage in (1, 2, 3) if stage > now]


def smaller_patches(training: Training) -> list[list[int]]:
    """Cubes smaller than the present patch; the network's own rules say which are too small."""
    patch = training.task.patch
    now = min(patch.size) if patch else 10**6
    return [[edge] * 3 for edge in (128, 96, 64) if edge < now]


LEVERS = (
    Lever("micro_batch", smaller_passes),
    Lever("task.model.checkpointing", lambda t: [] if t.task.model.checkpointing else [True]),
    Lever("engine", more_shared_out),
    Lever("precision", lambda t: ["bf16"] if t.precision == "fp32" else [], changes=True),
    Lever("task.patch", smaller_patches, changes=True),
)
"""From the cheapest in time to the dearest. A new one is a line here."""


@dataclass(frozen=True)
class Row:
    """A setting that was estimated.

    Attributes:
        words: what to add to the command, by key.
        cost: of an update.
        changes: how many of the words change what is learnt.
    """

    words: dict[str, Any]
    cost: Cost
    changes: int

    @property
    def told(self) -> str:
        """The words as they are typed."""
        words = [f"{k}={spelt(v)}" for k, v in self.words.items()]
        return " ".join(f"'{w}'" if " " in w else w for w in words)


def spelt(value: Any) -> str:
    """A value as YAML has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {spelt(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelt, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


class Planner:
    """Estimates settings of one training, each once.

    Args:
        free: bytes that are free there.
        rates: the pace by which settings are compared.
        world: processes that share the training out; `training` is that of one of them.
    """

    def __init__(
        self,
        training: Training,
        fake: FakeData,
        device: torch.device,
        free: float,
        rates: Throughput,
        world: int = 1,
    ) -> None:
        self.training, self.fake, self.device = training, fake, device
        self.free, self.rates, self.world = free, rates, world
        self.rows: dict[str, Row | None] = {}
        self.done: Done = {}
        known = {key for key, _ in flat(training.dump())}
        known |= {"engine"} if world > 1 else set()
        self.levers = [x for x in LEVERS if x.key in known and x.values(training)]

    def estimate_cost(self, words: dict[str, Any]) -> Row | None:
        """The row of a setting; None where the network refuses it (a patch that is too small)."""
        name = str(words)
        if name not in self.rows:
            self.rows[name] = None
            try:
                training = changed(self.training, words)
                cost = estimate_cost(training, self.fake, self.device, self.world, self.done)
            except Exception as error:  # of a network of one's own, anything
                if not words:
                    raise
                log.debug("%s: %s", words, error)
                return None
            changes = sum(x.changes for x in LEVERS if x.key in words)
            self.rows[name] = Row(words, cost, changes)
        return self.rows[name]

    def fits(self, row: Row) -> bool:
        """Whether it fits."""
        return need_of(row.cost, self.device.type) <= self.free

    def need(self, row: Row) -> str:
        """What it needs, as it is told."""
        return f"{need_of(row.cost, self.device.type) / GIB:.2f} GiB"

    def singles(self) -> Iterator[Row]:
        """The training as it is, and each lever alone."""
        plain = self.estimate_cost({})
        yield plain
        for words in ({x.key: v} for x in self.levers for v in x.values(self.training)):
            row = self.estimate_cost(words)
            if row is not None and row.cost != plain.cost:  # a patch may be larger than the scans
                yield row

    def together(self) -> Iterator[Row]:
        """Levers pulled one after the other, each as far as it goes, until something fits."""
        pulled: dict[str, Any] = {}
        for lever in self.levers:
            best = None
            for value in lever.values(self.training):
                row = self.estimate_cost({**pulled, lever.key: value})
                if row is None:
                    continue
                yield row
                if self.fits(row):
                    yield from self.eased(row)
                    return
                if best is None or row.cost.peak < best.cost.peak:
                    best = row
            pulled = pulled if best is None else best.words

    def eased(self, row: Row) -> Iterator[Row]:
        """The levers before the last one let go again, the dearest first, as far as it still fits."""
        for lever in reversed([x for x in self.levers if x.key in list(row.words)[:-1]]):
            without = {k: v for k, v in row.words.items() if k != lever.key}
            milder = [without] + [
                {k: value if k == lever.key else v for k, v in row.words.items()}
                for value in lever.values(self.training)
            ]
            for words in milder[: 1 + lever.values(self.training).index(row.words[lever.key])]:
                other = self.estimate_cost(words)
                if other is not None:
                    yield other
                    if self.fits(other):
                        row = other
                        break

    def plan(self) -> list[Row]:
        """Every row that is worth telling; levers together only if none alone makes it fit."""
        rows = list(self.singles())
        if not any(self.fits(row) and not row.changes for row in rows):
            rows += [row for row in self.together() if row not in rows]
        return list({row.told: row for row in rows}.values())

    def cheapest(self, rows: list[Row]) -> Row | None:
        """The training as it is, if that fits; else what changes least, and of that the fastest."""

        def price(row: Row) -> tuple[int, bool, float]:
            return row.changes, bool(row.words), self.rates.seconds(row.cost)

        return min((row for row in rows if self.fits(row)), key=price, default=None)


def changed(training: Training, words: dict[str, Any]) -> Training:
    """The training with other settings."""
    settings = training.dump()
    for key, value in words.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        settings = lay(settings, value)
    return type(training).parse(settings)


def fake_data(training: Training, shape: tuple[int, ...] | None = None) -> FakeData:
    """What stands for the data of a training: their size is read from grid, header or manifest.

    Args:
        training: with its task and data.
        shape: of a scan [X, Y, Z], or of a latent [C, x, y, z], where there are no data yet.
    """
    latents = training.data.kind == "latents"
    if shape is not None and len(shape) != 3 + latents:
        due = "[channels,x,y,z] of a latent" if latents else "[x,y,z] of a scan"
        raise ConfigError(f"shape={list(shape)}: {due} is due")
    kinds = {n: wanted.kind for n, wanted in getattr(training.task, "covariates", {}).items()}
    images = list(getattr(training.task, "images", ()))
    if latents:
        return training.data.open() if shape is None else FakeLatents(shape, kinds, images)
    shape = largest_shape(training.data) if shape is None else shape
    return FakeImages(shape, kinds, images, training.task.label_maps)
