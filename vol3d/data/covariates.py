"""The covariates of a model as a typed schema: what may be asked for, in which unit and range."""

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from vol3d.config import Config, did_you_mean
from vol3d.errors import ConfigError, DataError

Row = dict[str, float | str | None]
"""One person's covariates; None where the value is missing."""


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
        """Check a value somebody asked for.

        Raises:
            ConfigError: if it is no finite number.
        """
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"{self.name}={value!r}: a number{self.of_unit} is due")
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
        holds = [
            level_of(value) == level for level in self.levels
        ]  # nowhere, if only others have it
        if self.coding == "index":
            return [float(holds.index(True)) if any(holds) else -1.0]
        other = -1.0 if self.coding == "signs" else 0.0
        return [1.0 if h else other for h in holds]

    def check(self, value: float | str) -> str:
        """Check a level somebody asked for.

        Raises:
            ConfigError: if training never saw it.
        """
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


class Cell(Config):
    """One combination of the categories' levels: how many people, and their mean numbers."""

    levels: dict[str, str]
    count: int
    mean: list[float]
    """Of the numbers, as they are encoded."""


class Covariates(Config):
    """The schema of a model: its covariates, and how they go together in the training set.

    The joint distribution is the general location model (Olkin and Tate 1961): categories are
    counted per combination of levels, numbers are normal with a mean per combination and one
    covariance. It holds no row of any person.
    """

    columns: list[Annotated[Number | Category, Field(discriminator="kind")]]
    cells: list[Cell]
    covariance: list[list[float]]
    """Of the numbers as they are encoded, within cells."""

    @classmethod
    def measure(cls, wanted: dict[str, Wanted], rows: list[Row], names: list[str]) -> "Covariates":
        """From the rows of the training scans.

        Raises:
            DataError: a column nobody has, text where a number is due (named by `names`), or a
                number that is the same for everybody.
        """
        refuse_text(wanted, rows, names)
        columns = [measure_column(n, w, rows) for n, w in wanted.items()]
        numbers = [c for c in columns if isinstance(c, Number)]
        kinds = [c for c in columns if isinstance(c, Category)]
        z = np.array(
            [
                [np.nan if row.get(c.name) is None else c.encode(row[c.name])[0] for c in numbers]
                for row in rows
            ]
        ).reshape(len(rows), len(numbers))

        keys = [tuple(level_of(row.get(c.name)) for c in kinds) for row in rows]
        whole = [
            k
            for k in sorted(set(keys))
            if all(v in c.levels for v, c in zip(k, kinds, strict=True))
        ]
        if not whole:
            raise DataError(
                f"covariates {', '.join(c.name for c in kinds)}: no training scan has all of them, so "
                f"how they go together cannot be learnt; take one away, e.g. {kinds[0].name}: null"
            )
        cells, residual, used = [], np.zeros_like(z), np.zeros_like(z)
        for key in whole:
            at = np.array([k == key for k in keys])
            known = np.isfinite(z[at]).any(0)
            mean = np.where(known, np.nanmean(np.where(known, z[at], 0.0), axis=0), 0.0)
            residual[at] = np.nan_to_num(z[at] - mean)  # a missing number adds nothing
            used[at] = np.isfinite(z[at])
            cells.append(
                Cell(
                    levels={c.name: v for c, v in zip(kinds, key, strict=True)},
                    count=int(at.sum()),
                    mean=mean.tolist(),
                )
            )
        together = np.maximum(used.T @ used - len(cells), 1)  # scans that have both of a pair
        covariance = positive(residual.T @ residual / together)
        return cls(columns=columns, cells=cells, covariance=covariance.tolist())

    def __getitem__(self, name: str) -> Number | Category:
        for column in self.columns:
            if column.name == name:
                return column
        raise ConfigError(
            f"unknown covariate '{name}'.{did_you_mean(name, self.names)} "
            f"This model knows: {', '.join(self.names) or 'none'}."
        )

    @property
    def names(self) -> list[str]:
        """The covariates in the order of the condition vector."""
        return [c.name for c in self.columns]

    @property
    def width(self) -> int:
        """Length of the encoded row: values and, per covariate, whether it is known."""
        return sum(c.width for c in self.columns) + len(self.columns)

    def places(self, name: str) -> list[int]:
        """Where in an encoded row a covariate's values are, and last whether it is known."""
        i = self.names.index(name)
        start = sum(c.width for c in self.columns[:i])
        known = sum(c.width for c in self.columns) + i
        return [*range(start, start + self.columns[i].width), known]

    def check(self, asked: dict[str, Any]) -> Row:
        """Check what somebody asks for; None and "n/a" mean not asked.

        Raises:
            ConfigError: an unknown name, an unknown level, or text where a number is due.
        """
        return {n: None if v is None or v == "n/a" else self[n].check(v) for n, v in asked.items()}

    def doubts(self, row: Row) -> list[str]:
        """Warnings for values outside the range seen in training."""
        found = [self[n].doubt(v) for n, v in row.items() if v is not None]
        return [d for d in found if d]

    def complete(self, asked: Row, rng: np.random.Generator) -> Row:
        """Fill what was not asked for: None stays for `null`, `draw` is drawn given the others."""
        numbers = [c for c in self.columns if isinstance(c, Number)]
        given = np.array([asked.get(c.name) is not None for c in numbers], bool)
        value = np.array(
            [c.encode(asked[c.name])[0] for c, g in zip(numbers, given, strict=True) if g]
        )
        covariance = np.array(self.covariance).reshape(len(numbers), len(numbers))
        inverse = np.linalg.inv(covariance[np.ix_(given, given)])

        # Which combination of levels: in proportion to its count and to how likely the numbers are in it.
        fits = [
            c for c in self.cells if all(asked.get(k) in (None, v) for k, v in c.levels.items())
        ] or self.cells
        apart = [value - np.array(c.mean)[given] for c in fits]
        log_p = np.array(
            [math.log(c.count) - d @ inverse @ d / 2 for c, d in zip(fits, apart, strict=True)]
        )
        p = np.exp(log_p - log_p.max())
        chosen = int(np.searchsorted(np.cumsum(p / p.sum()), rng.random()))
        cell, d = fits[min(chosen, len(fits) - 1)], apart[min(chosen, len(fits) - 1)]

        # The numbers that are left, from the normal distribution given the others.
        left = ~given
        across = covariance[np.ix_(left, given)] @ inverse
        mean = np.array(cell.mean)[left] + across @ d
        spread = covariance[np.ix_(left, left)] - across @ covariance[np.ix_(given, left)]
        drawn = iter(rng.multivariate_normal(mean, spread, method="eigh") if left.any() else [])

        row: Row = {}
        for c in self.columns:
            row[c.name] = asked.get(c.name)
            if isinstance(c, Number) and row[c.name] is None:
                z = float(next(drawn))
                if c.absent == "draw":
                    row[c.name] = c.decode(z)
            elif row[c.name] is None and c.absent == "draw":
                row[c.name] = cell.levels[c.name]
        return row

    def encode(self, row: Row, keep: list[bool] | None = None) -> list[float]:
        """The row as [width] floats: standardised values (0 where unknown), then 1 or 0 for known.

        Args:
            row: values by name.
            keep: per covariate, False to hide it (condition dropout and guidance).
        """
        values, known = [], []
        for i, c in enumerate(self.columns):
            value = row.get(c.name) if keep is None or keep[i] else None
            values += [0.0] * c.width if value is None else c.encode(value)
            known.append(0.0 if value is None else 1.0)
        return values + known


def positive(covariance: np.ndarray) -> np.ndarray:
    """The nearest matrix that is a covariance: pairs measured apart from each other may not make one."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.maximum(values, 1e-6)) @ vectors.T


def refuse_text(wanted: dict[str, Wanted], rows: list[Row], names: list[str]) -> None:
    """A number is a number, for everybody.

    Raises:
        DataError: names the scan and the value.
    """
    for who, row in zip(names, rows, strict=True):
        for name, w in wanted.items():
            if w.kind == "number" and isinstance(row.get(name), str):
                raise DataError(
                    f"{who}: covariate '{name}' is {row[name]!r}, a number is due; "
                    f"mend the table or make it a category"
                )


def level_of(value: float | str | None) -> str:
    """A level's name: a table's 1 is read as 1.0, and means 1."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def measure_column(name: str, wanted: Wanted, rows: list[Row]) -> Number | Category:
    """One covariate's range, normaliser or levels over the training scans."""
    present = [row[name] for row in rows if row.get(name) is not None]
    if not present:
        have = sorted({k for row in rows for k in row})
        raise DataError(
            f"covariate '{name}': no training scan has it.{did_you_mean(name, have)} "
            f"The table has: {', '.join(have) or 'no covariates'}. "
            f"Name those in task.covariates, and take this one away with {name}: null."
        )
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
