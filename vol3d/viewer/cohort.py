"""A cohort to leaf through: its table, filters and order, flags of an evaluation, and each one's layers.

Only the table is read; images are, one person at a time, when they are asked for.
"""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from vol3d.config import did_you_mean
from vol3d.data.tables import cell, parse_value, participants_table, read_rows, spelt
from vol3d.errors import ConfigError, DataError
from vol3d.io.reading import read_json
from vol3d.viewer.folders import cohort_at, images_of, layers_of_person
from vol3d.viewer.layers import LayerTuple

Cell = float | str | None
WHO = "participant_id"
SESSION = ("session_id", "session")
FLAG = "off_ml"
"""The column that says how far, in ml, a measured volume lies from the one asked for, at most."""
SIGNS: dict[str, Callable[[Cell, Cell], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
CONDITION = re.compile(r"(?P<column>[^<>=!]+)(?P<sign><=|>=|!=|<|>|=)(?P<value>.*)")


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What an evaluation said of a cohort.

    Attributes:
        amiss: sentences on what is out of line.
        off_ml: of each image, the largest difference between a volume measured and asked for.
        limit_ml: more is out of line: the segmenter's own errors on real scans are smaller in 19 of 20.
    """

    amiss: list[str]
    off_ml: dict[str, float]
    limit_ml: float | None


@dataclass
class Cohort:
    """A BIDS folder with a table of its people, of which some rows are chosen, in some order.

    Attributes:
        folder: with participants.tsv.
        rows: a row for each person, or each visit, in the order of the table.
        shown: the numbers of the rows that are chosen, in order.
    """

    folder: Path
    rows: list[dict[str, Cell]]
    evaluated: Evaluated | None = None
    shown: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shown = list(range(len(self.rows)))

    @classmethod
    def open(cls, folder: Path) -> "Cohort":
        """Read a cohort's table, and the evaluation that it is part of, where it is.

        Args:
            folder: a BIDS dataset, or the folder of `vol3d evaluate` (its closed_loop is shown).

        Raises:
            DataError: there is no table of people, and nobody's folder.
        """
        folder = cohort_at(folder)
        table = participants_table(folder)
        if table is None:
            people = sorted(p.name for p in folder.glob("sub-*") if p.is_dir())
            if not people:
                raise DataError(f"{folder}: has no participants.tsv, and no folders sub-...")
            read = [{WHO: name} for name in people]
        else:
            read = read_rows(table)
        first = WHO if WHO in read[0] else next(iter(read[0]))
        rows = [
            {WHO: named(row, first), **{k: parse_value(v) for k, v in row.items() if k != first}}
            for row in read
        ]
        found = evaluation_of(folder)
        for row in rows if found else []:
            row[FLAG] = found.off_ml.get(str(row[WHO]))
        return cls(folder, rows, found)

    @cached_property
    def columns(self) -> list[str]:
        """Of the table."""
        return list(self.rows[0])

    def who(self, row: int) -> str:
        """Whose a row is: sub-X or sub-X_ses-Y."""
        session = cell({k: str(v) for k, v in self.rows[row].items() if v is not None}, *SESSION)
        return str(self.rows[row][WHO]) + (
            f"_ses-{session.removeprefix('ses-')}" if session else ""
        )

    def is_flagged(self, row: int) -> bool:
        """Whether the evaluation found it out of line."""
        off, limit = self.rows[row].get(FLAG), self.evaluated and self.evaluated.limit_ml
        return isinstance(off, float) and limit is not None and off > limit

    def choose(self, conditions: str) -> None:
        """Choose rows, in the order of the table.

        Args:
            conditions: such as `age>60 sex=F`, all of which must hold; a word alone is to be somewhere in
                the row. A row that lacks a value meets no condition on it.

        Raises:
            ConfigError: there is no such column.
        """
        tests = [self.test_of(word) for word in conditions.split()]
        self.shown = [i for i, row in enumerate(self.rows) if all(test(row) for test in tests)]

    def test_of(self, word: str) -> Callable[[dict[str, Cell]], bool]:
        """Whether a row meets one condition."""
        found = CONDITION.fullmatch(word)
        if not found:
            return lambda row: any(word.lower() in shown(v).lower() for v in row.values())
        column, wanted = found["column"], parse_value(found["value"])
        if column not in self.columns:
            near = did_you_mean(column, self.columns)
            raise ConfigError(f"no column '{column}'.{near} There are {', '.join(self.columns)}.")
        compare = SIGNS[found["sign"]]

        def test(row: dict[str, Cell]) -> bool:
            value = row[column]
            return type(value) is type(wanted) and value is not None and compare(value, wanted)

        return test

    def sort(self, column: str, *, descending: bool = False) -> None:
        """Order the chosen rows; numbers before words, and what is missing always last."""

        def key(i: int) -> tuple[int, float, str]:
            value = self.rows[i][column]
            return (0, value, "") if isinstance(value, float) else (1, 0.0, str(value))

        there = [i for i in self.shown if self.rows[i][column] is not None]
        lacking = [i for i in self.shown if self.rows[i][column] is None]
        self.shown = [*sorted(there, key=key, reverse=descending), *lacking]

    def files(self, row: int) -> list[Path]:
        """The images of a row."""
        return images_of(self.folder, self.who(row))

    def layers(self, row: int) -> list[LayerTuple]:
        """Its scan, and its label maps unseen but for one; real and generated on one contrast scale."""
        return layers_of_person(self.folder, self.who(row), all_scans=False)


def named(row: dict[str, str], column: str) -> str:
    """A row's person as folders name them."""
    return spelt((row[column].removeprefix("sub-"), None))


def shown(value: Cell) -> str:
    """A cell as it is shown; whole numbers without a point."""
    if value is None:
        return ""
    return f"{value:.7g}" if isinstance(value, float) else value


def evaluation_of(folder: Path) -> Evaluated | None:
    """What `vol3d evaluate` found of a cohort that it made; None where the folder is of none."""
    top = folder.parent
    table, summary = top / "measurements.tsv", top / "summary.json"
    if folder.name != "closed_loop" or not (table.is_file() and summary.is_file()):
        return None
    rows = read_rows(table)
    gaps = [
        (row["image"], row["set"], abs(float(row["measured_ml"]) - float(row["reference_ml"])))
        for row in rows
    ]
    off: dict[str, float] = {}
    for image, which, gap in gaps:
        if which == "sample":
            who = "_".join(w for w in image.split("_") if w.startswith(("sub-", "ses-")))
            off[who] = max(off.get(who, 0.0), gap)
    own = sorted(gap for _, which, gap in gaps if which == "held-out")
    limit = quantile(own, 0.95) if own else None
    amiss = read_json(summary).get("amiss", [])
    return Evaluated([str(words) for words in amiss], off, limit)


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values, the one that so many are at most."""
    return values[min(len(values) - 1, int(share * len(values)))]
