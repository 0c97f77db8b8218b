"""A table of scans: one row per image, with its path and covariates; for data that is not BIDS."""

from pathlib import Path
from typing import Literal

from vol3d.data.dataset import Dataset
from vol3d.data.scan import Scan
from vol3d.data.tables import SESSION, bare, cell, choose_columns, read_rows
from vol3d.errors import ConfigError, DataError

NOT_COVARIATES = {"subject", "participant_id", "image", "labels", "mask", "split", *SESSION}


class Table(Dataset):
    """Scans listed in a TSV, one row per image.

    Columns: `subject` and `image`; if wanted `session`, `labels`, `mask` (of the brain), `split` and
    covariates. Paths in the table are relative to the table's folder.
    """

    kind: Literal["table"] = "table"
    path: Path
    """The TSV (or CSV) file."""

    def find(self) -> list[Scan]:
        """One scan per row."""
        if not self.path.is_file():
            raise ConfigError(f"{self.path}: no such table")
        rows = read_rows(self.path)
        who = "subject" if "subject" in rows[0] else "participant_id"
        for column in (who, "image"):
            if column not in rows[0]:
                raise DataError(
                    f"{self.path}: has no column '{column.replace('participant_id', 'subject')}'. "
                    f"It has: {', '.join(rows[0])}."
                )
        scans = [self.scan(row, who) for row in rows]
        self.check_people(scans)
        return scans

    def scan(self, row: dict[str, str], who: str) -> Scan:
        """One row as a scan."""
        subject = bare(row[who])
        session = cell(row, *SESSION)
        if not subject:
            raise DataError(f"{self.path}: the row of image '{row['image']}' names no {who}")
        if cell(row, "image") is None:
            raise DataError(f"{self.path}: the row of subject '{subject}' names no image")
        return Scan(
            subject=subject,
            session=session.removeprefix("ses-") if session else None,
            image=self.file(row["image"], subject),
            labels=self.file(row["labels"], subject) if cell(row, "labels") else None,
            covariates=choose_columns(row, NOT_COVARIATES),
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

    def check_people(self, scans: list[Scan]) -> None:
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
