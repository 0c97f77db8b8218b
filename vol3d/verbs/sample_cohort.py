"""Make a cohort of brains whose ages and volumes are known exactly, to try everything with."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field, model_validator

from vol3d.config import Config, several
from vol3d.data.bids_writer import (
    DESCRIPTION,
    MNI_SPACE,
    anat_place,
    bids_name,
    read_maker,
    write_description,
    write_participants,
    write_sidecar,
    write_text,
    write_tsv,
)
from vol3d.data.displacement import write_displacement
from vol3d.data.rng import numpy_rng
from vol3d.data.synthetic.contrast import Contrast
from vol3d.data.synthetic.person import Anatomy
from vol3d.data.synthetic.raters import draw_rater
from vol3d.data.synthetic.subject import Subject, make_subject
from vol3d.data.synthetic.template import TISSUES, load_template
from vol3d.data.synthetic.texts import (
    LABELS,
    LICENCE,
    columns,
    image_sidecar,
    mask_sidecar,
    readme,
)
from vol3d.data.synthetic.velocity import load_parts
from vol3d.data.tables import read_rows
from vol3d.errors import ConfigError
from vol3d.io.files import is_free, make_folder
from vol3d.io.lock import at_work
from vol3d.io.progress import track
from vol3d.io.reading import understood

XFM = {"from": MNI_SPACE, "to": "T1w", "mode": "image"}
EXTRAS = ("contrasts", "missing", "lesions", "raters")
"""Settings that stand in dataset_description.json only where they are on."""


class SampleCohort(Config):
    """Make a cohort of brains with known truth: vol3d sample-cohort OUT [n=192] [spacing=4].

    Writes a BIDS derivatives dataset: T1w images, label maps, and participants.tsv with age, sex,
    and the true volumes of brain and lateral ventricles; on request T2w and FLAIR images, lesions,
    and raters who outline them. Person number i is the same in every cohort of a seed. Run it again
    to go on after a stop.
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
    contrasts: Annotated[list[Contrast], BeforeValidator(several)] = Field(default_factory=list)
    """Which images each person has beside T1w, simulated from the tissues: T2w, FLAIR or both."""
    missing: float = Field(default=0.0, ge=0, lt=1)
    """Each person lacks each of the contrasts with this chance, whatever else they lack."""
    lesions: bool = False
    """People have white-matter lesions, more with age: all images show them, and a mask is exact."""
    raters: int = Field(default=0, ge=0, le=99)
    """So many simulated raters outline the lesions, each with a known bias and error."""

    @model_validator(mode="after")
    def extras_go_together(self) -> "SampleCohort":
        """What can be missing, and what raters outline, is there."""
        if len(set(self.contrasts)) < len(self.contrasts):
            raise ValueError(f"contrasts: each stands there once, got {', '.join(self.contrasts)}")
        if self.missing and not self.contrasts:
            raise ValueError("missing: only further contrasts can be; add contrasts=[T2w,FLAIR]")
        if self.raters and not self.lesions:
            raise ValueError("raters: there is nothing to outline; add lesions=true")
        return self

    def execute(self) -> Path:
        """Make all people who are not there yet."""
        with at_work(self.out):
            done = self.claim()
            self.write_top()
            rows, told = [done[i] for i in sorted(done)], columns(lesions=self.lesions)
            lacking = set(range(self.n)) - set(done)
            for row in track(self.make(lacking), "cohort", len(lacking)):
                rows = sorted([*rows, row], key=lambda r: r["participant_id"])
                write_participants(self.out, rows, told)  # last: a person there is complete
            return self.out

    def claim(self) -> dict[int, dict[str, str]]:
        """Check that the folder is ours; the rows of those who are complete, by number."""
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
        return {
            i: row for i, row in done.items() if all(p.is_file() for p in self.files(i).values())
        }

    def settings(self) -> dict:
        """What makes the people who they are: all settings but the folder and how many."""
        told = {k: v for k, v in self.dump().items() if k not in ("out", "n")}
        return {k: v for k, v in told.items() if v or k not in EXTRAS}

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
        subject = make_subject(
            self.seed,
            index,
            float(self.spacing),
            self.anatomy,
            contrasts=self.present(index),
            lesions=self.lesions,
            raters=self.raters,
        )
        volumes = {"T1w": subject.image, "tissue": subject.labels, **subject.contrasts}
        if subject.lesions is not None:
            volumes["truth"] = subject.lesions
        volumes |= {f"rater{i + 1}": rating for i, rating in enumerate(subject.ratings)}
        files = self.files(index)
        xfm = files.pop("xfm")
        make_folder(xfm.parent)
        for what, path in files.items():
            make_folder(path.parent)
            volumes[what].write(path)
        write_displacement(xfm, subject.displacement, subject.image.grid)
        return row_of(subject, name_of(index))

    def present(self, index: int) -> list[Contrast]:
        """The contrasts that a person does not lack."""
        return [
            contrast
            for contrast in self.contrasts
            if numpy_rng(self.seed, "missing", contrast, index).uniform() >= self.missing
        ]

    def files(self, index: int) -> dict[str, Path]:
        """The files of a person: T1w, tissue and xfm, and what else was asked for, by name."""
        name = name_of(index)
        images = {c: ("brain", c) for c in ["T1w", *self.present(index)]}
        masks = {desc: (desc, "mask") for desc in self.masks()}
        named = {"tissue": ("tissue", "dseg"), **images, **masks}
        paths = {
            what: anat_place(self.out, name, self.entities(desc), suffix)
            for what, (desc, suffix) in named.items()
        }
        xfm = self.out / "sourcedata" / name / f"{bids_name(XFM, 'xfm', name)}.nii.gz"
        return {**paths, "xfm": xfm}

    def masks(self) -> dict[str, int | None]:
        """The masks of lesions by `desc`: the truth, and those of the raters by their number."""
        raters = {f"rater{i}": i for i in range(1, self.raters + 1)}
        return {"truth": None, **raters} if self.lesions else {}

    def entities(self, desc: str) -> dict[str, str]:
        """The words of the file names."""
        words = {"space": MNI_SPACE, "res": str(self.spacing), "desc": desc}
        return words | {"label": "lesion"} if desc in self.masks() else words

    def write_top(self) -> None:
        """What stands at the top of the dataset."""
        made_by = {
            "Name": "vol3d sample-cohort",
            "Description": "people made from the MNI152 template; nobody real",
            "Settings": self.settings(),
        }
        write_description(self.out, "vol3d sample cohort", LICENCE, made_by)
        extras = {name: getattr(self, name) for name in EXTRAS}
        write_text(self.out / "README", readme(**extras))
        x, y, z = (round(n / self.spacing) for n in (160, 224, 160))
        where = {
            "SpatialReference": "MNI152NLin2009aSym template, 1 mm, as shipped with nilearn",
            "Resolution": f"{self.spacing} mm isotropic, {x}x{y}x{z} voxels",
        }
        t1w = {"Description": "T1-weighted brain of nobody", "SkullStripped": True, **where}
        dseg = {"Description": "tissues, exact", "Manual": False, **where}
        write_sidecar(self.out, self.entities("brain"), "T1w", t1w)
        write_sidecar(self.out, self.entities("tissue"), "dseg", dseg)
        for contrast in {c for i in range(self.n) for c in self.present(i)}:
            write_sidecar(
                self.out, self.entities("brain"), contrast, {**image_sidecar(contrast), **where}
            )
        for desc, rater in self.masks().items():
            write_sidecar(self.out, self.entities(desc), "mask", {**mask_sidecar(rater), **where})
        if self.raters:
            raters = [(f"rater{i}", draw_rater(self.seed, i)) for i in range(1, self.raters + 1)]
            table = make_folder(self.out / "sourcedata") / "raters.tsv"
            write_tsv(table, [{"rater": name, **asdict(rater)} for name, rater in raters])
        names = [{"index": i + 1, "name": LABELS[t]} for i, t in enumerate(TISSUES)]
        write_tsv(self.out / "desc-tissue_dseg.tsv", names)


def name_of(index: int) -> str:
    """The person's name; people count from 1."""
    return f"sub-{index + 1:04d}"


def row_of(subject: Subject, name: str) -> dict[str, object]:
    """The truth about a person as a row of participants.tsv."""
    row = {
        "participant_id": name,
        "age": f"{subject.person.age:.2f}",
        "sex": subject.person.sex,
        "brain_ml": f"{subject.brain_ml:.2f}",
        "ventricles_ml": f"{subject.ventricles_ml:.2f}",
        "split": subject.split,
    }
    if subject.lesions_ml is not None:
        row["lesions_ml"] = f"{subject.lesions_ml:.2f}"
    return row
