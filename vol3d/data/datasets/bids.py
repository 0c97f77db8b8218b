"""A BIDS folder: images found by their names, covariates from participants.tsv and sessions.tsv."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from vol3d.data.bids_writer import parse_entities
from vol3d.data.dataset import Dataset, Names, Text
from vol3d.data.tables import (
    SESSION,
    Person,
    bare,
    cell,
    choose_columns,
    few,
    participants_table,
    read_rows,
    spelt,
    unmatched,
)
from vol3d.data.visit import KINDS, MAIN_LABELS, Visit
from vol3d.errors import ConfigError, DataError

Entities = dict[str, Text | None]
Images = dict[Person, Path]
"""A file for each person and session."""
PLACE = ("space", "res")
"""Entities that say where voxels lie."""


class Bids(Dataset):
    """Scans of a BIDS dataset, raw or derivatives, with or without sessions."""

    kind: Literal["bids"] = "bids"
    path: Path
    """The dataset's folder, the one with participants.tsv."""
    contrasts: Names = ["T1w"]
    """Which kinds of image, by the last word of their file names: T1w, or [T1w, FLAIR]. The first is what
    most tasks learn from; a visit may lack any."""
    entities: Entities = Field(default_factory=dict)
    """What the file names must say, for example {res: 2, desc: brain}; null: must not say."""
    first_run: bool = False
    """Where the files of a scan differ in their run alone, take the first one."""
    mask_entities: Entities | None = Field(default_factory=lambda: {"desc": "brain"})
    """What the brain masks beside the scans say, of the same space and res as the scan. Outside of them
    scans become 0, but for scans that say desc-brain themselves; null: no mask is looked for."""
    labels_entities: Entities | None = None
    """The same for label maps, for example {desc: muse}; without it none are looked for."""
    labels_suffix: str = "dseg"
    """The last word of the label maps' names."""
    raters: dict[str, Entities] = {}
    """Label maps of several raters, by a name for each: what the names of their files say, for example
    {anna: {desc: rater1}, ben: {desc: rater2}}."""

    @model_validator(mode="after")
    def check_names(self) -> "Bids":
        """Contrasts and raters have names of their own; measured volumes need label maps."""
        if not self.contrasts or len({*self.contrasts, *self.raters, MAIN_LABELS}) <= len(
            [*self.contrasts, *self.raters]
        ):
            raise ValueError(
                f"contrasts={self.contrasts} and raters={list(self.raters)}: at least one contrast, and "
                f"a name for each that no other has ('{MAIN_LABELS}' are those of labels_entities)"
            )
        if self.volumes and self.labels_entities is None:
            raise ValueError(
                "volumes are measured in label maps: say which with labels_entities, "
                "for example labels_entities={desc: muse}"
            )
        return self

    def of_images_alone(self) -> Self:
        """See `Dataset.of_images_alone`."""
        update = {"labels_entities": None, "raters": {}}
        return super().of_images_alone().model_copy(update=update)

    def find(self) -> list[Visit]:
        """A visit for each person and session that has an image of a wanted contrast."""
        if not self.path.is_dir():
            raise ConfigError(f"{self.path}: no such folder")
        of_visits = self.images()
        images = {visit: next(iter(some.values())) for visit, some in of_visits.items()}
        maps = self.label_maps(images)
        people, splits = self.participants(with_visits=any(session for _, session in images))
        self.check_ids(set(people), set(images))
        empty = dict.fromkeys(next(iter(people.values()), {}))
        masks = self.masks(images)
        visits = {subject: self.sessions(subject) for subject in {who for who, _ in images}}
        columns = {c: None for rows in visits.values() for row in rows.values() for c in row}
        scans = []
        for subject, session in images:
            row = people.get((subject, session), people.get((subject, None), empty))
            covariates = {**columns, **row}
            covariates.update(visits[subject].get(session, {}))
            split = self.split_of(subject, splits.get(subject))
            visit = (subject, session)
            known = {name: found[visit] for name, found in maps.items() if visit in found}
            mask, several = masks.get(visit), of_visits[visit]
            scans.append(Visit(*visit, several, covariates, split, labels=known, mask=mask))
        return scans

    def images(self) -> dict[Person, dict[str, Path]]:
        """The images of each person and session by contrast, in the order of `contrasts`."""
        found: dict[Person, dict[str, Path]] = {}
        for contrast in self.contrasts:
            images = self.files(contrast, self.entities, "entities")
            if not images:
                raise ConfigError(self.nothing_found(contrast))
            for visit, path in images.items():
                found.setdefault(visit, {})[contrast] = path
        return found

    def label_maps(self, images: Images) -> dict[str, Images]:
        """The label maps beside images, by name: "labels", and those of the raters."""
        wanted = {} if self.labels_entities is None else {MAIN_LABELS: self.labels_entities}
        keys = {MAIN_LABELS: "labels_entities", **{name: f"raters.{name}" for name in self.raters}}
        found = {}
        for name, entities in {**wanted, **self.raters}.items():
            found[name] = self.files(self.labels_suffix, entities, keys[name], images)
            if not found[name]:
                raise ConfigError(
                    f"{self.path}: no label map *_{self.labels_suffix}.nii.gz with "
                    f"{keys[name]} {spell(entities)}"
                )
        return found

    def files(
        self, suffix: str, entities: Entities, key: str, beside: Images | None = None
    ) -> Images:
        """The one file of each person and session with a suffix and entities.

        Args:
            suffix: the last word of their names.
            entities: what the names must say.
            key: the setting that says so.
            beside: only those that belong to these images, and of several the one that is named alike.

        Raises:
            DataError: several files match; it lists them and how to choose.
        """
        found = {}
        for visit, paths in self.matching(suffix, entities).items():
            if beside is not None:
                paths = alike(beside[visit], paths) if visit in beside else []
            paths = sorted(paths, key=run_of)
            if self.first_run and differ_in_run(paths):
                paths = paths[:1]
            if len(paths) > 1:
                names = ", ".join(p.name for p in paths)
                raise DataError(
                    f"{len(paths)} files match for one scan: {names}; choose with {key}, for example "
                    f"{key}={hint(paths)}"
                )
            found.update((visit, path) for path in paths)
        return found

    def matching(self, suffix: str, entities: Entities) -> dict[Person, list[Path]]:
        """The files of each person and session with a suffix and entities.

        Two patterns, and not pybids: it would replace these lines alone, since which of several files
        is meant, and who is left out, are said here either way, and takes 0.6 s for 192 people to
        index what this finds in 0.02; no sidecar of a scan is read, so none is inherited.

        Raises:
            DataError: a folder's name is none that BIDS knows.
        """
        found: dict[Person, list[Path]] = {}
        for pattern in ("sub-*/*/sub-*", "sub-*/ses-*/*/sub-*"):
            for path in sorted(self.path.glob(f"{pattern}_{suffix}.nii*")):
                check_folders(path, self.path)
                said = parse_entities(path)
                if all(same(said.get(k), v) for k, v in entities.items()):
                    found.setdefault((said["sub"], said.get("ses")), []).append(path)
        return found

    def masks(self, images: Images) -> Images:
        """The brain masks beside those images that are not stripped by their names."""
        if self.mask_entities is None:
            return {}
        whole = {v: p for v, p in images.items() if parse_entities(p).get("desc") != "brain"}
        spaces = {spell(place_of(p)): place_of(p) for p in whole.values()}
        found: Images = {}
        for space, place in spaces.items():
            here = {v: p for v, p in whole.items() if spell(place_of(p)) == space}
            entities = {**place, **self.mask_entities}
            found |= self.files("mask", entities, "mask_entities", here)
        return found

    def participants(self, *, with_visits: bool) -> tuple[dict[Person, dict], dict[str, str]]:
        """Covariates by subject, or by visit where the table tells visits; and the splits it has."""
        path = participants_table(self.path)
        if path is None:
            return {}, {}
        people, splits = {}, {}
        for row in read_rows(path):
            if "participant_id" not in row:
                raise DataError(f"{path}: has no column 'participant_id'")
            subject = bare(row["participant_id"])
            session = (cell(row, *SESSION) or "").removeprefix("ses-") if with_visits else ""
            person = (subject, session or None)
            if person in people:
                raise DataError(
                    f"{path}: two rows are of '{row['participant_id']}'; keep one, or tell visits "
                    f"apart in a column 'session_id', as the folders ses-* do"
                )
            people[person] = choose_columns(row, {"participant_id", "split", *SESSION})
            split = cell(row, "split")
            if split and splits.setdefault(subject, split) != split:
                raise DataError(
                    f"{path}: '{row['participant_id']}' is in both train and val, but people are "
                    f"split, not visits; give all rows of a person one split"
                )
        return people, splits

    def check_ids(self, rows: set[Person], images: set[Person]) -> None:
        """Refuse a table in which nobody is who is there."""
        people = {who for who, _ in images}
        if rows and people.isdisjoint(who for who, _ in rows):
            path = participants_table(self.path)
            raise DataError(
                f"{'; '.join(unmatched(path, rows, images))}; name people as the folders do"
            )

    def doubts(self, scans: list[Visit]) -> list[str]:
        """Who is left out by what the names must say, and rows that are of no scan."""
        images = set(self.images())
        left = {visit for c in self.contrasts for visit in self.matching(c, {})} - images
        found = super().doubts(scans)
        if left:
            everyone = left | images
            people = [len({who for who, _ in some}) for some in (images, everyone)]
            found.append(
                f"entities={spell(self.entities)}: {len(images)} of {len(everyone)} scans, of "
                f"{people[0]} of {people[1]} people; left out: {few(map(spelt, left))}"
            )
        table = participants_table(self.path)
        if table is None:
            return [
                *found,
                f"{self.path}: has no participants.tsv, so nothing is known of the people",
            ]
        people, _ = self.participants(with_visits=any(session for _, session in images))
        told = {row for row in people if row[0] not in {who for who, _ in left}}
        found += unmatched(table, told, images)
        for subject in sorted({who for who, _ in images}):
            rows = {(subject, session) for session in self.sessions(subject)}
            if lost := rows - images:
                found.append(f"sub-{subject}_sessions.tsv: no scan is of {few(map(spelt, lost))}")
        return found

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

    def nothing_found(self, contrast: str) -> str:
        """Why a folder has no image of a contrast: nothing of BIDS in it, or names that do not match."""
        if not any(self.path.glob("sub-*")):
            return f"{self.path}: holds no sub-* folder, so it is no BIDS dataset"
        there = sorted({p.name.split("_", 1)[-1] for p in self.path.glob("sub-*/**/sub-*.nii*")})
        others = {re.sub(r".*_|\.nii.*", "", f"_{name}") for name in there} & KINDS - {
            *self.contrasts
        }
        return (
            f"{self.path}: no image *_{contrast}.nii.gz with entities {spell(self.entities)}. "
            f"It has: {', '.join('*_' + n for n in there[:5]) or 'no .nii.gz at all'}."
            + (f" Other kinds of image are chosen with contrasts={min(others)}." if others else "")
        )


def check_folders(path: Path, root: Path) -> None:
    """Refuse folders whose names would be cut at an underscore: sub-a_b for sub-a."""
    for folder in path.relative_to(root).parts[:-2]:
        if "_" in folder:
            what = "subject" if folder.startswith("sub-") else "session"
            raise DataError(
                f"{path}: {folder} is the name of no BIDS {what}, letters and digits alone are due after "
                f"{folder[:4]}; rename the folder and its files"
            )


def spell(entities: Entities) -> str:
    """Entities as a user writes them."""
    return "{" + ", ".join(f"{k}: {'null' if v is None else v}" for k, v in entities.items()) + "}"


def same(said: str | None, wanted: str | None) -> bool:
    """Whether a name says what is wanted; a run may be told as 1 or as 01."""
    if said and wanted and said.isdigit() and wanted.isdigit():
        return int(said) == int(wanted)
    return said == wanted


def place_of(path: Path) -> Entities:
    """Where the voxels of a file lie, by its name."""
    return {key: parse_entities(path).get(key) for key in PLACE}


def differ_in_run(paths: list[Path]) -> bool:
    """Whether names differ in their run alone."""
    return len({re.sub(r"_run-[^_]+", "", p.name) for p in paths}) == 1


def run_of(path: Path) -> tuple[int, str]:
    """Runs in their order."""
    run = parse_entities(path).get("run", "0")
    return (int(run) if run.isdigit() else 0, run)


def alike(image: Path, paths: list[Path]) -> list[Path]:
    """Of several files, those that say the same as an image: where voxels lie, then all but `desc`."""
    said = parse_entities(image)
    words = [k for k in said if k not in ("desc", *PLACE)]
    for keys in (PLACE, (*words, "run", "acq")):
        like = [p for p in paths if all(parse_entities(p).get(k) == said.get(k) for k in keys)]
        if len(paths) > 1 and like:
            paths = like
    return paths


def hint(paths: list[Path]) -> str:
    """The entities in which one file differs from the others: one in MNI space, else the first."""
    said = [parse_entities(p) for p in paths]
    best = next((words for words in said if words.get("space", "").startswith("MNI")), said[0])
    keys = dict.fromkeys(k for words in said for k in words)
    differ = {k: best.get(k) for k in keys if len({words.get(k) for words in said}) > 1}
    drops = ", which leaves out whoever has no such run; first_run=true takes the first of each"
    return spell(differ) + drops * differ_in_run(paths)
