"""A covariate by itself: what a config wants, and a number or a category as it was seen in training."""

import math
import re
from typing import Literal

import numpy as np
from pydantic import Field

from vol3d.config import Config, did_you_mean
from vol3d.data.tables import parse_value
from vol3d.errors import ConfigError, DataError

Row = dict[str, float | str | None]
"""One person's covariates; None where the value is missing."""
LIMITS = {
    r"^age($|_)|_age$": (0.0, 125.0, "age in years"),
    r"_ml$": (0.0, math.inf, "volume"),
}
"""The least and the most that a covariate can be, and what it is, by its name."""
NO_LIMITS = (-math.inf, math.inf, "")


class Wanted(Config):
    """A covariate that a training config names."""

    kind: Literal["number", "category"] = "number"
    """A quantity with a unit, or one of a few names."""
    unit: str = ""
    """years, ml, ... ; empty for a category."""
    absent: Literal["null", "draw"] = "draw"
    """When it is not asked for: tell the model nothing, or draw it from training given the others."""
    guidance: float = Field(default=1.0, ge=0)
    """Default guidance scale of classifier-free guidance; 1 is off and costs no network call."""


class Number(Config):
    """A quantity, as it was seen in training."""

    kind: Literal["number"] = "number"
    name: str
    unit: str
    low: float
    high: float
    mean: float
    std: float
    missing: int
    absent: Literal["null", "draw"]
    guidance: float
    scaling: Literal["standard", "range"] = "standard"
    """standard: zero mean and unit variance over the training set; range: 0 at low, 1 at high."""

    @property
    def width(self) -> int:
        """How many entries of the condition vector it takes."""
        return 1

    @property
    def shift_and_scale(self) -> tuple[float, float]:
        """What is taken away from a value, and what it is then divided by."""
        if self.scaling == "range":
            return self.low, self.high - self.low
        return self.mean, self.std

    def encode(self, value: float | str) -> list[float]:
        """The value as the network is told it."""
        shift, scale = self.shift_and_scale
        return [(float(value) - shift) / scale]

    def decode(self, z: float) -> float:
        """The value that is told as z, within the range seen in training."""
        shift, scale = self.shift_and_scale
        return float(np.clip(shift + scale * z, self.low, self.high))

    def check(self, value: float | str) -> float:
        """Check a value somebody asked for: a finite number that can be, else a ConfigError."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"{self.name}={value!r}: a number{self.of_unit} is due")
        why = impossible(self.name, number)
        if why and not (impossible(self.name, self.low) or impossible(self.name, self.high)):
            raise ConfigError(f"{self.name}={number:g}: {why}")
        return number

    @property
    def of_unit(self) -> str:
        """The unit as part of a sentence, or nothing."""
        return f" in {self.unit}" if self.unit else ""

    def doubt(self, value: float | str) -> str | None:
        """A warning where the value lies outside what training saw."""
        if self.low <= float(value) <= self.high:
            return None
        return (
            f"{self.name}={value:g} lies outside the range seen in training, "
            f"{self.low:g} to {self.high:g}{f' {self.unit}' if self.unit else ''}"
        )


class Category(Config):
    """One of a few names, as seen in training."""

    kind: Literal["category"] = "category"
    name: str
    levels: dict[str, int]
    """Each level and the number of training scans that have it."""
    missing: int
    absent: Literal["null", "draw"]
    guidance: float
    coding: Literal["signs", "one_hot", "index"] = "signs"
    """signs: 1 at the level that holds and -1 at the others; one_hot: 1 and 0; index: its place in
    the list, as a single number from 0."""

    @property
    def width(self) -> int:
        """How many entries of the condition vector it takes."""
        return 1 if self.coding == "index" else len(self.levels)

    def encode(self, value: float | str) -> list[float]:
        """The level as the network is told it."""
        holds = [level_of(value) == level for level in self.levels]  # perhaps nowhere
        if self.coding == "index":
            return [float(holds.index(True)) if any(holds) else -1.0]
        other = -1.0 if self.coding == "signs" else 0.0
        return [1.0 if h else other for h in holds]

    def check(self, value: float | str) -> str:
        """Check a level somebody asked for: one that training saw, else a ConfigError."""
        level = level_of(value)
        if level not in self.levels:
            raise ConfigError(
                f"{self.name}={value!r}: unknown level."
                f"{did_you_mean(level, list(self.levels))} "
                f"Known: {', '.join(self.levels)}."
            )
        return level

    def doubt(self, value: float | str) -> str | None:
        """Nothing: a level is known, or refused by `check`."""
        return None


def level_of(value: float | str | None) -> str:
    """A level's name: a table's 1 or 01 is read as 1.0, and means 1."""
    number = parse_value(value) if isinstance(value, str) else value
    return f"{number:g}" if isinstance(number, float) else str(value)


def impossible(name: str, value: float) -> str | None:
    """Why a value cannot be, where the name of its covariate says what it is; None where it can."""
    low, high, what = limits_of(name)
    return None if low <= value <= high else f"no {what} is that ({low:g} to {high:g} is possible)"


def limits_of(name: str) -> tuple[float, float, str]:
    """The least and the most that a covariate can be, by its name, and what it is."""
    return next((r for key, r in LIMITS.items() if re.search(key, name.lower())), NO_LIMITS)


def measure_column(name: str, wanted: Wanted, rows: list[Row]) -> Number | Category:
    """One covariate's range, normaliser or levels over the training scans."""
    present = [row[name] for row in rows if row.get(name) is not None]
    missing = len(rows) - len(present)
    rest = {"name": name, "missing": missing, "absent": wanted.absent, "guidance": wanted.guidance}
    if wanted.kind == "category":
        levels = [level_of(v) for v in present]
        return Category(levels={v: levels.count(v) for v in sorted(set(levels))}, **rest)
    x = np.array(present, float)
    if x.std() == 0:
        raise DataError(
            f"covariate '{name}': is {x[0]:g} for every training scan, so nothing can be "
            f"learnt from it; leave it out"
        )
    return Number(
        unit=wanted.unit,
        low=float(x.min()),
        high=float(x.max()),
        mean=float(x.mean()),
        std=float(x.std()),
        **rest,
    )
