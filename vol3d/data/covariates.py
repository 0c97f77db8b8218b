"""The covariates of a model as a typed schema: what may be asked for, in which unit and range."""

import difflib
import math
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from vol3d.config import Config, did_you_mean
from vol3d.data.covariate_types import Category, Number, Row, Wanted, level_of, measure_column
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError, DataError

SAME = {"gender": "sex"}
"""Other names that tables have for what our configs want."""


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
            ConfigError: columns that nobody has.
            DataError: text where a number is due (named by `names`), or a number that is the same for
                everybody.
        """
        refuse_lacking(wanted, rows)
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
        return {
            n: None if v is None or str(v) == "n/a" else self[n].check(v) for n, v in asked.items()
        }

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


def refuse_unknown(wanted: dict[str, Wanted], scans: list[Visit]) -> None:
    """Somebody to learn from has each covariate, and a number is a number, for everybody.

    Raises:
        ConfigError: names all that nobody has.
        DataError: names the first text where a number is due.
    """
    refuse_lacking(wanted, [s.covariates for s in scans if s.split == "train"])
    refuse_text(wanted, [s.covariates for s in scans], [s.name for s in scans])


def refuse_lacking(wanted: dict[str, Wanted], rows: list[Row]) -> None:
    """Somebody has each covariate; else name all that nobody has, and what there is instead."""
    have = sorted({name for row in rows for name, value in row.items() if value is not None})
    lacks = [name for name in wanted if name not in have]
    if not lacks:
        return
    near = [f"{n} may be '{other}'" for n in lacks if (other := near_name(n, have))]
    there = f"{', '.join(have) or 'no covariates'}"
    there += f" ({'; '.join(near)})" if near else ""
    raise ConfigError(
        f"covariates {', '.join(lacks)}: no training scan has {'them' if lacks[1:] else 'it'}. The "
        f"tables have: {there}. Add or rename the columns, or take them away: "
        + " ".join(f"task.covariates.{name}=null" for name in lacks)
    )


def near_name(name: str, have: list[str]) -> str | None:
    """What somebody may have meant by a covariate's name: capitals do not matter."""
    lower = {SAME.get(other.lower(), other.lower()): other for other in have}
    near = difflib.get_close_matches(name.lower(), list(lower), n=1)
    return lower[near[0]] if near else None


def refuse_text(wanted: dict[str, Wanted], rows: list[Row], names: list[str]) -> None:
    """A number is a number, for everybody; else name the scan and the value."""
    for name in (n for n, w in wanted.items() if w.kind == "number"):
        told = [
            (who, row[name])
            for who, row in zip(names, rows, strict=True)
            if isinstance(row.get(name), str)
        ]
        if told:
            who, value = told[0]
            more = f" (and {len(told) - 1} scans more have text)" if told[1:] else ""
            raise DataError(
                f"{who}: covariate '{name}' is {value!r}, a number is due{more}; mend the table "
                f"(where values are cut off, as in 89+, write a number of your own or n/a), or make it a "
                f"category"
            )
