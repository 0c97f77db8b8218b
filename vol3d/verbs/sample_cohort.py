"""Make a cohort of brains whose ages and volumes are known exactly, to try everything with."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field

from vol3d.config import Config
from vol3d.data.bids_writer import (
    DESCRIPTION,
    MNI_SPACE,
    anat_path,
    bids_name,
    read_maker,
    write_description,
    write_participants,
    write_sidecar,
    write_text,
    write_tsv,
)
from vol3d.data.displacement import write_displacement
from vol3d.data.synthetic.person import Anatomy
from vol3d.data.synthetic.subject import Subject, make_subject
from vol3d.data.synthetic.template import TISSUES, load_template
from vol3d.data.synthetic.velocity import load_parts
from vol3d.data.tables import read_rows
from vol3d.errors import ConfigError
from vol3d.io.files import is_free, make_folder
from vol3d.io.lock import at_work
from vol3d.io.progress import track
from vol3d.io.reading import understood

XFM = {"from": MNI_SPACE, "to": "T1w", "mode": "image"}
LABELS = {"csf": "cerebrospinal fluid", "gm": "grey matter", "wm": "white matter",
          "ventricles": "lateral ventricles"}  # fmt: skip
COLUMNS = {
    "age": {"Description": "age drawn for the person", "Units": "years"},
    "sex": {"Description": "sex drawn for the person", "Levels": {"F": "female", "M": "male"}},
    "brain_ml": {"Description": "true volume of grey and white matter", "Units": "mL"},
    "ventricles_ml": {"Description": "true volume of the lateral ventricles", "Units": "mL"},
    "split": {"Description": "every sixth person is for validation",
              "Levels": {"train": "to learn from", "val": "to check on"}},
}  # fmt: skip
LICENCE = (
    "As the MNI152 template: free to use, copy, modify and distribute with its notice (README)"
)
README = """\
A cohort of brains that do not exist, made by vol3d sample-cohort

Every person is the MNI152 template, moved by one smooth invertible warp that stands for head size,
the size of the lateral ventricles, atrophy of the cortex, and chance; then contrast, a slow drift
of brightness and noise. Age, sex and the volumes in participants.tsv are the truth. This is for
trying out software: nothing about real brains can be learnt from it.

sub-*/anat/*_desc-brain_T1w.nii.gz      the image
sub-*/anat/*_desc-tissue_dseg.nii.gz    its labels, named in desc-tissue_dseg.tsv
sourcedata/sub-*/*_xfm.nii.gz           the warp that made it: vectors in mm, RAS+, such that the
                                        template at x + u(x) is the person at x

Template: ICBM 152 nonlinear symmetric 2009a, shipped with nilearn. Copyright (C) 1993-2009 Louis
Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University.
Permission to use, copy, modify, and distribute this software and its documentation for any purpose
and without fee is hereby granted, provided that the above copyright notice appear in all copies.
The authors and McGill University make no representations about the suitability of this software
for any purpose. It is provided "as is" without express or implied warranty. The authors are not
responsible for any data loss, equipment damage, property loss, or injury to subjects or patients
resulting from the use or misuse of this software package.
Fonov et al., Unbiased average age-appropriate brain templates, NeuroImage 47, S102, 2009.
"""


class SampleCohort(Config):
    """Make a cohort of brains with known truth: vol3d sample-cohort OUT [n=192] [spacing=4].

    Writes a BIDS derivatives dataset: T1w images, label maps, and participants.tsv with age, sex,
    and the true volumes of brain and lateral ventricles. Person number i is the same in every
    cohort of a seed. Run it again to go on after a stop.
    """

    positional: ClassVar[tuple[str, ...]] = ("out",)
    out: Path
    """Folder to write; new, empty, or an unfinished cohort of the same settings."""
    n: int = Field(default=192, ge=1, le=9999)
    """How many people."""
    spacing: Literal[1, 2, 4] = 4
    """Voxel size in mm; 4 makes images of 40 x 56 x 40 voxels, 1 of 160 x 224 x 160."""
    seed: int = Field(default=0, ge=0)
    """Another seed makes other people."""
    anatomy: Anatomy = Anatomy()
    """How people differ."""

    def execute(self) -> Path:
        """Make all people who are not there yet."""
        with at_work(self.out):
            done = self.claim()
            self.write_top()
            rows = [done[i] for i in sorted(done)]
            lacking = set(range(self.n)) - set(done)
            for row in track(self.make(lacking), "cohort", len(lacking)):
                rows = sorted([*rows, row], key=lambda r: r["participant_id"])
                write_participants(self.out, rows, COLUMNS)  # last: a person there is complete
            return self.out

    def claim(self) -> dict[int, dict[str, str]]:
        """Check that the folder is ours; the rows of those who are complete, by number.

        Raises:
            ConfigError: it holds something else, or a cohort of other settings or more people.
        """
        if is_free(self.out):
            return {}
        if not (self.out / DESCRIPTION).is_file():
            raise ConfigError(f"{self.out}: holds something that is no cohort; name another folder")
        if read_maker(self.out).get("Settings") != self.settings():
            raise ConfigError(
                f"{self.out}: holds a dataset of other settings or of another origin; "
                f"name another folder"
            )
        table = self.out / "participants.tsv"
        rows = read_rows(table) if table.is_file() else []
        with understood(table):
            done = {int(row["participant_id"].removeprefix("sub-")) - 1: row for row in rows}
        if len(done) > self.n:
            raise ConfigError(
                f"{self.out}: holds {len(done)} people, n={self.n} is fewer; name another folder"
            )
        return {i: row for i, row in done.items() if all(p.is_file() for p in self.files(i))}

    def settings(self) -> dict:
        """What makes the people who they are: all settings but the folder and how many."""
        return {k: v for k, v in self.dump().items() if k not in ("out", "n")}

    def make(self, people: set[int]) -> Iterator[dict[str, object]]:
        """Make people on all cores, in order; yields their rows once their files are written."""
        if not people:
            return
        load_template(1.0)  # once, before the threads ask for it
        load_parts()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # one person per core is faster than one person on all cores
        try:
            with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
                yield from pool.map(self.make_one, sorted(people))
        finally:
            torch.set_num_threads(threads)

    def make_one(self, index: int) -> dict[str, object]:
        """Make one person and write the files; the row of participants.tsv."""
        subject = make_subject(self.seed, index, float(self.spacing), self.anatomy)
        image, labels, displacement = self.files(index)
        make_folder(displacement.parent)
        subject.image.write(image)
        subject.labels.write(labels)
        write_displacement(displacement, subject.displacement, subject.image.grid)
        return row_of(subject, name_of(index))

    def files(self, index: int) -> tuple[Path, Path, Path]:
        """Image, label map and displacement of a person."""
        name = name_of(index)
        return (
            anat_path(self.out, name, self.entities("brain"), "T1w"),
            anat_path(self.out, name, self.entities("tissue"), "dseg"),
            self.out / "sourcedata" / name / f"{bids_name(XFM, 'xfm', name)}.nii.gz",
        )

    def entities(self, desc: str) -> dict[str, str]:
        """The words of the file names."""
        return {"space": MNI_SPACE, "res": str(self.spacing), "desc": desc}

    def write_top(self) -> None:
        """What stands at the top of the dataset."""
        made_by = {
            "Name": "vol3d sample-cohort",
            "Description": "people made from the MNI152 template; nobody real",
            "Settings": self.settings(),
        }
        write_description(self.out, "vol3d sample cohort", LICENCE, made_by)
        write_text(self.out / "README", README)
        x, y, z = (round(n / self.spacing) for n in (160, 224, 160))
        where = {
            "SpatialReference": "MNI152NLin2009aSym template, 1 mm, as shipped with nilearn",
            "Resolution": f"{self.spacing} mm isotropic, {x}x{y}x{z} voxels",
        }
        t1w = {"Description": "T1-weighted brain of nobody", "SkullStripped": True, **where}
        dseg = {"Description": "tissues, exact", "Manual": False, **where}
        write_sidecar(self.out, self.entities("brain"), "T1w", t1w)
        write_sidecar(self.out, self.entities("tissue"), "dseg", dseg)
        names = [{"index": i + 1, "name": LABELS[t]} for i, t in enumerate(TISSUES)]
        write_tsv(self.out / "desc-tissue_dseg.tsv", names)


def name_of(index: int) -> str:
    """The person's name; people count from 1."""
    return f"sub-{index + 1:04d}"


def row_of(subject: Subject, name: str) -> dict[str, object]:
    """The truth about a person as a row of participants.tsv."""
    return {
        "participant_id": name,
        "age": f"{subject.person.age:.2f}",
        "sex": subject.person.sex,
        "brain_ml": f"{subject.brain_ml:.2f}",
        "ventricles_ml": f"{subject.ventricles_ml:.2f}",
        "split": subject.split,
    }
