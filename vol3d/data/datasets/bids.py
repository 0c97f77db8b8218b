"""A BIDS folder: images found by their names, covariates from participants.tsv and sessions.tsv."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from vol3d.data.dataset import Dataset, Text
from vol3d.data.scan import Scan
from vol3d.data.tables import bare, choose_columns, read_rows
from vol3d.errors import ConfigError, DataError

Entities = dict[str, Text | None]


class Bids(Dataset):
    """Scans of a BIDS dataset, raw or derivatives, with or without sessions."""

    kind: Literal["bids"] = "bids"
    path: Path
    """The dataset's folder, the one with participants.tsv."""
    suffix: str = "T1w"
    """Which kind of image: the last word of the file names."""
    entities: Entities = Field(default_factory=dict)
    """What the file names must say, for example {res: 2, desc: brain}; null: must not say."""
    labels_entities: Entities | None = None
    """The same for label maps, for example {desc: muse}; without it none are looked for."""
    labels_suffix: str = "dseg"
    """The last word of the label maps' names."""

    @model_validator(mode="after")
    def volumes_need_labels(self) -> "Bids":
        """Measured volumes need label maps."""
        if self.volumes and self.labels_entities is None:
            raise ValueError(
                "volumes are measured in label maps: say which with labels_entities, "
                "for example labels_entities={desc: muse}"
            )
        return self

    def find(self) -> list[Scan]:
        """One scan per person and session that has an image of the wanted name."""
        if not self.path.is_dir():
            raise ConfigError(f"{self.path}: no such folder")
        images = self.files(self.suffix, self.entities, "entities")
        if not images:
            raise ConfigError(self.nothing_found())
        labels = {}
        if self.labels_entities is not None:
            labels = self.files(self.labels_suffix, self.labels_entities, "labels_entities")
            if not labels:
                raise ConfigError(
                    f"{self.path}: no label map *_{self.labels_suffix}.nii.gz with "
                    f"labels_entities {spell(self.labels_entities)}"
                )
        people, splits = self.participants()
        empty = dict.fromkeys(next(iter(people.values()), {}))
        visits = {subject: self.sessions(subject) for subject in {who for who, _ in images}}
        columns = {c: None for rows in visits.values() for row in rows.values() for c in row}
        scans = []
        for (subject, session), image in images.items():
            covariates = {**columns, **people.get(subject, empty)}
            covariates.update(visits[subject].get(session, {}))
            split = self.split_of(subject, splits.get(subject))
            known = labels.get((subject, session))
            scans.append(Scan(subject, session, image, known, covariates, split))
        return scans

    def files(
        self, suffix: str, entities: Entities, key: str
    ) -> dict[tuple[str, str | None], Path]:
        """The one file of each person and session with a suffix and entities.

        Raises:
            DataError: several files match; it lists them and how to choose.
        """
        found: dict[tuple[str, str | None], list[Path]] = {}
        for pattern in ("sub-*/*/sub-*", "sub-*/ses-*/*/sub-*"):
            for path in sorted(self.path.glob(f"{pattern}_{suffix}.nii*")):
                said = parse_entities(path)
                if all(said.get(k) == v for k, v in entities.items()):
                    found.setdefault((said["sub"], said.get("ses")), []).append(path)
        for paths in found.values():
            if len(paths) > 1:
                raise DataError(
                    f"{len(paths)} files match for one scan: {', '.join(p.name for p in paths)}; "
                    f"choose with {key}, for example {key}={hint(paths)}"
                )
        return {who: paths[0] for who, paths in found.items()}

    def participants(self) -> tuple[dict[str, dict], dict[str, str]]:
        """Covariates by subject, and splits where the table has them."""
        path = self.path / "participants.tsv"
        if not path.is_file():
            return {}, {}
        people, splits = {}, {}
        for row in read_rows(path):
            if "participant_id" not in row:
                raise DataError(f"{path}: has no column 'participant_id'")
            subject = bare(row["participant_id"])
            if subject in people:
                raise DataError(f"{path}: two rows are of '{row['participant_id']}'; keep one")
            people[subject] = choose_columns(row, {"participant_id", "split"})
            if row.get("split", "n/a") not in ("", "n/a"):
                splits[subject] = row["split"]
        return people, splits

    def sessions(self, subject: str) -> dict[str, dict]:
        """Covariates by session of a person, from sub-X/sub-X_sessions.tsv."""
        path = self.path / f"sub-{subject}" / f"sub-{subject}_sessions.tsv"
        if not path.is_file():
            return {}
        visits = {}
        for row in read_rows(path):
            if "session_id" not in row:
                raise DataError(f"{path}: has no column 'session_id'")
            session = row["session_id"].removeprefix("ses-")
            if session in visits:
                raise DataError(f"{path}: two rows are of '{row['session_id']}'; keep one")
            if "split" in row:
                raise DataError(
                    f"{path}: has a column 'split', but people are split, not visits; "
                    f"move it to participants.tsv"
                )
            visits[session] = choose_columns(row, {"session_id"})
        return visits

    def nothing_found(self) -> str:
        """Why a folder has no scans: nothing of BIDS in it, or names that do not match."""
        if not any(self.path.glob("sub-*")):
            return f"{self.path}: holds no sub-* folder, so it is no BIDS dataset"
        there = sorted({p.name.split("_", 1)[-1] for p in self.path.glob("sub-*/**/sub-*.nii*")})
        return (
            f"{self.path}: no image *_{self.suffix}.nii.gz with entities {spell(self.entities)}. "
            f"It has: {', '.join('*_' + n for n in there[:5]) or 'no .nii.gz at all'}."
        )


def parse_entities(path: Path) -> dict[str, str]:
    """The words of a BIDS file name: {"sub": "01", "res": "2", ...}."""
    stem = re.sub(r"\.nii(\.gz)?$", "", path.name)
    return dict(word.split("-", 1) for word in stem.split("_") if "-" in word)


def spell(entities: Entities) -> str:
    """Entities as a user writes them."""
    return "{" + ", ".join(f"{k}: {'null' if v is None else v}" for k, v in entities.items()) + "}"


def hint(paths: list[Path]) -> str:
    """The entities in which the first file differs from the others."""
    said = [parse_entities(p) for p in paths]
    keys = dict.fromkeys(k for words in said for k in words)
    differ = {k: said[0].get(k) for k in keys if len({words.get(k) for words in said}) > 1}
    return spell(differ)
