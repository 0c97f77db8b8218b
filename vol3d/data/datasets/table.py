"""A table of scans: one row per image, with its path and covariates; for data that is not BIDS."""

from pathlib import Path
from typing import Literal

from vol3d.data.dataset import Dataset
from vol3d.data.tables import SESSION, bare, cell, choose_columns, read_rows
from vol3d.data.visit import KINDS, MAIN_LABELS, Visit, kind_of
from vol3d.errors import ConfigError, DataError

NO_IMAGE = {"subject", "participant_id", MAIN_LABELS, "mask", "split", *SESSION}
RATER = f"{MAIN_LABELS}_"
"""The beginning of a column with the label maps of a rater: labels_anna."""


class Table(Dataset):
    """Visits listed in a TSV, a row each.

    Columns: `subject` and `image`, or instead of `image` several that are called by their contrast (T1w,
    T2w, FLAIR), any of which may be n/a; if wanted `session`, `labels`, `labels_NAME` for each of several
    raters, `mask` (of the brain), `split` and covariates. Paths are relative to the table's folder.
    """

    kind: Literal["table"] = "table"
    path: Path
    """The TSV (or CSV) file."""

    def find(self) -> list[Visit]:
        """One visit per row."""
        if not self.path.is_file():
            raise ConfigError(f"{self.path}: no such table")
        rows = read_rows(self.path)
        who = "subject" if "subject" in rows[0] else "participant_id"
        contrasts = {c: c for c in rows[0] if c in KINDS}
        if "image" in rows[0]:
            kind = kind_of(Path(row["image"]) for row in rows)
            contrasts = {kind: "image", **contrasts}
        for column, is_there in ((who, who in rows[0]), ("image", contrasts)):
            if not is_there:
                raise DataError(
                    f"{self.path}: has no column '{column.replace('participant_id', 'subject')}'. "
                    f"It has: {', '.join(rows[0])}."
                )
        scans = [self.visit(row, who, contrasts) for row in rows]
        self.check_people(scans)
        return scans

    def visit(self, row: dict[str, str], who: str, contrasts: dict[str, str]) -> Visit:
        """One row as a visit; `contrasts` are the columns with its images."""
        subject = bare(row[who])
        session = cell(row, *SESSION)
        if not subject:
            images = ", ".join(row[column] for column in contrasts.values())
            raise DataError(f"{self.path}: the row of image '{images}' names no {who}")
        images = {c: row[column] for c, column in contrasts.items() if cell(row, column)}
        if not images:
            raise DataError(f"{self.path}: the row of subject '{subject}' names no image")
        maps = {c.removeprefix(RATER): row[c] for c in row if is_map(c) and cell(row, c)}
        return Visit(
            subject=subject,
            session=session.removeprefix("ses-") if session else None,
            images={c: self.file(name, subject) for c, name in images.items()},
            labels={name: self.file(path, subject) for name, path in maps.items()},
            covariates=choose_columns(row, {*NO_IMAGE, *contrasts.values(), *filter(is_map, row)}),
            split=self.split_of(subject, cell(row, "split")),
            mask=self.file(row["mask"], subject) if cell(row, "mask") else None,
        )

    def file(self, name: str, subject: str) -> Path:
        """A path of the table, which must exist."""
        path = self.path.parent / name
        if not path.is_file():
            raise DataError(
                f"{self.path}: subject '{subject}' names '{name}', no such file: {path}"
            )
        return path

    def check_people(self, scans: list[Visit]) -> None:
        """Every scan is there once, and no person is in both splits."""
        names: set[str] = set()
        splits: dict[str, str] = {}
        for scan in scans:
            if scan.name in names:
                raise DataError(
                    f"{self.path}: two rows are of {scan.name}; keep one, or tell them apart in a "
                    f"column 'session'"
                )
            names.add(scan.name)
            if splits.setdefault(scan.subject, scan.split) != scan.split:
                raise DataError(
                    f"{self.path}: subject '{scan.subject}' is in both train and val, but people "
                    f"are split, not scans; give all rows of a person one split"
                )


def is_map(column: str) -> bool:
    """Whether a column names label maps."""
    return column == MAIN_LABELS or column.startswith(RATER)
