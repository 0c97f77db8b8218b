"""The tables of a prepared dataset: what the raw one says of its people, and what was measured."""

from pathlib import Path

from vol3d.data.bids_writer import write_json, write_participants, write_tsv
from vol3d.data.tables import participants_table, read_rows
from vol3d.data.visit import Visit
from vol3d.io.reading import read_json

MEASURED = {
    "brain_ml": {"Description": "Volume of the brain mask of the raw scan", "Units": "mL"},
    "ventricles_ml": {
        "Description": "Volume of the lateral ventricles in the raw scan, estimated",
        "Units": "mL",
    },
}
"""The covariates that preparation measures, as BIDS describes them."""
Row = dict[str, object]


def write_tables(raw: Path, folder: Path, scans: list[Visit], measures: list[Row]) -> None:
    """participants.tsv and the sessions' tables, for the people and visits that were prepared.

    What was measured is added, but where the raw dataset has a column of that name: that stays. It
    stands with the visit where a scan has one, and with the person elsewhere.
    """
    people = sorted({s.subject for s in scans})
    table = read_table(participants_table(raw))
    sessions = {p: read_table(sessions_of(raw, p)) for p in people}
    own = {c for rows in (table, *sessions.values()) for row in rows for c in row}
    new = [c for c in MEASURED if c not in own]
    found = {
        (s.subject, s.session): {c: m[c] for c in new} for s, m in zip(scans, measures, strict=True)
    }
    rows = join("participant_id", "sub-", table, {p: found.get((p, None), {}) for p in people})
    write_participants(folder, rows, meaning(raw / "participants.json", rows))
    for person in people:
        visits = {v: kept for (who, v), kept in found.items() if who == person and v is not None}
        if visits and (new or sessions[person]):
            path, described = sessions_of(folder, person), sessions_of(raw, person)
            rows = join("session_id", "ses-", sessions[person], visits)
            write_tsv(path, rows)
            write_json(path.with_suffix(".json"), meaning(described.with_suffix(".json"), rows))


def sessions_of(folder: Path, person: str) -> Path:
    """The table of a person's visits."""
    return folder / f"sub-{person}" / f"sub-{person}_sessions.tsv"


def read_table(path: Path | None) -> list[Row]:
    """Its rows; none if there is no such table."""
    return read_rows(path) if path and path.is_file() else []


def join(key: str, prefix: str, table: list[Row], measured: dict[str, Row]) -> list[Row]:
    """The rows whose names, in column `key`, were measured, and rows for those that the table lacks.

    Names in the table may begin with `prefix`, those in `measured` do not; a name may have several rows.
    """
    told: dict[str, list[Row]] = {}
    for row in table:
        told.setdefault(str(row[key]).removeprefix(prefix), []).append(row)
    rows = [
        {**row, key: f"{prefix}{name}", **more}
        for name, more in measured.items()
        for row in told.get(name, [{}])
    ]
    columns = dict.fromkeys([key, *(c for row in rows for c in row)])
    return [{c: row.get(c) for c in columns} for row in rows]


def meaning(path: Path, rows: list[Row]) -> dict[str, dict]:
    """What the columns of rows mean, by the raw dataset's JSON and by ours."""
    known = {**MEASURED, **(read_json(path) if path.is_file() else {})}
    return {c: known.get(c, {}) for c in rows[0] if c not in ("participant_id", "session_id")}
