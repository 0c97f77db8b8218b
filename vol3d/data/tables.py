"""Tables about people: TSV and CSV files, their values, and volumes that other tools measured."""

import csv
import difflib
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from vol3d.config import Config, did_you_mean, several
from vol3d.errors import ConfigError, DataError
from vol3d.io.reading import read_text

MISSING = {"", "n/a", "na", "nan"}
Person = tuple[str, str | None]
"""Subject and session, without "sub-" and "ses-"; None for a row that holds for all sessions."""
SESSION = ("session", "session_id")
"""The columns that make a row that of a visit."""
SEVERAL = 5
"""So many names are told, and then how many more there are."""


class VolumeTable(Config):
    """Volumes that another tool measured, in mm3: FreeSurfer's or SynthSeg's table."""

    path: Path
    """From FreeSurfer's asegstats2table (first column "Measure:volume") or SynthSeg ("subject")."""
    columns: dict[str, Annotated[list[str], BeforeValidator(several)]] = Field(min_length=1)
    """Covariate in ml -> columns to sum, for example ventricles_ml: [Left-Lateral-Ventricle]."""

    def read(self) -> dict[Person, dict[str, float | None]]:
        """The covariates in ml of each person; None where a summand is missing (DataError)."""
        rows = read_rows(self.path)
        known = list(rows[0])
        for column in [c for group in self.columns.values() for c in group]:
            if column not in known:
                raise DataError(
                    f"{self.path}: has no column '{column}'.{did_you_mean(column, known)} "
                    f"It has: {', '.join(known)}."
                )
        people: dict[Person, dict[str, float | None]] = {}
        for row in rows:
            name = row[known[0]]
            person = parse_person(name)
            if person in people:
                raise DataError(
                    f"{self.path}: two rows are of '{name}' (same subject and session); keep one"
                )
            people[person] = {k: self.sum_ml(row, name, group) for k, group in self.columns.items()}
        return people

    def sum_ml(self, row: dict[str, str], name: str, columns: list[str]) -> float | None:
        """The sum of some columns of a row in ml, or None if one of them is missing."""
        values = [parse_value(row[c]) for c in columns]
        for column, value in zip(columns, values, strict=True):
            if isinstance(value, str):
                raise DataError(
                    f"{self.path}: '{name}' has {value!r} in column '{column}', "
                    f"a number in mm3 is due"
                )
        return None if None in values else sum(values) / 1000


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a TSV or CSV file as text by column; a tab in the header makes it a TSV.

    Raises:
        DataError: no such file, no rows, a column named twice, or a row of another length.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such table")
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    if lines and lines[0].startswith("# Title Segmentation Statistics"):
        raise DataError(
            f"{path}: is FreeSurfer's table of one person; make one of all people with: "
            f"asegstats2table --subjects ... --meas volume --tablefile aseg.tsv"
        )
    if len(lines) < 2:
        raise DataError(f"{path}: holds no rows; a header line and a line per person are due")
    try:
        rows = list(csv.reader(lines, delimiter="\t" if "\t" in lines[0] else ","))
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as a table ({error}); save it again") from None
    header = [name.strip() for name in rows[0]]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path}: column '{twice[0]}' is there twice; keep one")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise DataError(
                f"{path}: row {number} ('{row[0]}') has {len(row)} columns, "
                f"the header has {len(header)}; mend the row"
            )
    return [{k: v.strip() for k, v in zip(header, row, strict=True)} for row in rows[1:]]


def parse_value(text: str) -> float | str | None:
    """A table's cell: a number if it reads as one, None if missing ("n/a" or empty), else text."""
    if text.strip().lower() in MISSING:
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) and "_" not in text else text


def parse_person(name: str) -> Person:
    """Subject and session out of a row's name: "IXI013", "sub-01", or "sub-01_ses-02_T1w"."""
    found = re.match(r"sub-([^_]+)(?:_ses-([^_]+))?", name)
    return (found[1], found[2]) if found else (name, None)


def participants_table(folder: Path) -> Path | None:
    """The table of a dataset's people; as CSV where there is no TSV."""
    paths = [folder / f"participants.{kind}" for kind in ("tsv", "csv")]
    return next((p for p in paths if p.is_file()), None)


def cell(row: dict[str, str], *columns: str) -> str | None:
    """The cell of the first of some optional columns that is there; None where it is missing."""
    text = next((row[c] for c in columns if c in row), "")
    return None if text.lower() in MISSING else text


def choose_columns(row: dict[str, str], leave: set[str]) -> dict[str, float | str | None]:
    """The covariates of a row: all its columns but those that are something else."""
    return {k: parse_value(v) for k, v in row.items() if k not in leave}


def bare(subject: str) -> str:
    """A subject's name without "sub-", which tables may have or not."""
    return subject.removeprefix("sub-")


def check_known(asked: list[str], known: set[str], key: str) -> None:
    """Refuse subjects that a dataset does not have, by a ConfigError that names the first."""
    for subject in asked:
        if bare(subject) not in known:
            near = nearest(bare(subject), known)
            hint = f" Did you mean '{near}'?" if near else ""
            raise ConfigError(
                f"{key}: there is no subject '{subject}'.{hint} "
                f"The dataset has {len(known)}, such as {', '.join(sorted(known)[:3])}."
            )


def unmatched(table: Path, rows: set[Person], scans: set[Person]) -> list[str]:
    """Which rows of a table are of no scan, and which scans have no row; a line each.

    A row without a session is of all visits of a person.
    """
    people = {who for who, _ in scans}
    lost = {r for r in rows if r not in scans and not (r[1] is None and r[0] in people)}
    lone = {s for s in scans if s not in rows and (s[0], None) not in rows}
    found = []
    if lost:
        first = min(lost, key=spelt)
        who = nearest(first[0], {who for who, _ in lone})
        near = min(spelt(s) for s in lone if s[0] == who) if who else None
        hint = f" (is {spelt(first)} {near}?)" if near else ""
        names = few(map(spelt, lost))
        found.append(f"{table}: {len(lost)} of {len(rows)} rows are of no scan: {names}{hint}")
    if lone:
        names = few(map(spelt, lone))
        found.append(f"{table}: has no row for {len(lone)} of {len(scans)} scans: {names}")
    return found


def spelt(person: Person) -> str:
    """A person, or a visit, in BIDS's words."""
    return f"sub-{person[0]}" + (f"_ses-{person[1]}" if person[1] else "")


def few(names: Iterable[str]) -> str:
    """The first few of them."""
    names = sorted(set(names))
    more = f" and {len(names) - SEVERAL} more" if len(names) > SEVERAL else ""
    return ", ".join(names[:SEVERAL]) + more


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Who may be meant by a name: one that differs by zeros or case alone, else one that is near."""
    alike = {plain(other): other for other in sorted(names)}
    near = difflib.get_close_matches(name, list(alike.values()), n=1)
    return alike.get(plain(name)) or next(iter(near), None)


def plain(name: str) -> str:
    """A name without what is easily lost: leading zeros, capitals, hyphens."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[^a-z0-9]", "", name.lower()))
