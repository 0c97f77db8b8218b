"""Prepare raw scans for training: brain mask, bias field, alignment to MNI152, grid, intensity."""

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PositiveInt

from vol3d.data.bids_writer import (
    DESCRIPTION,
    read_maker,
    sidecar_of,
    write_description,
    write_text,
    write_tsv,
)
from vol3d.data.dataset import Names
from vol3d.data.datasets.bids import Bids, Entities
from vol3d.data.preparation.derivatives import Place, digest, qc_row
from vol3d.data.preparation.parallel import side_by_side
from vol3d.data.preparation.pipeline import STAGES, Steps
from vol3d.data.preparation.qc import LEAST, MOST, flags
from vol3d.data.preparation.tables import MEASURED, write_tables
from vol3d.data.summary import counted
from vol3d.data.tables import few
from vol3d.data.visit import Visit
from vol3d.distributed.shards import ALL, Shard, share, sum_up, tell
from vol3d.errors import ConfigError, DataError, RunError
from vol3d.io.cores import own_cores
from vol3d.io.files import is_free, make_folder
from vol3d.io.header import Form
from vol3d.io.lock import at_work
from vol3d.io.progress import Bar
from vol3d.io.reading import read_json, under
from vol3d.report.preparation_montage import write_montage

log = logging.getLogger(__name__)
RUN_ONLY = {"bids_dir", "out", "subjects", "exclude", "jobs", "shard"}
"""Settings that do not change how a scan comes out."""
ASKED_FOR = ("age", "sex", "brain_ml", "ventricles_ml")
"""The covariates that the diffusion models of configs/ are told."""
README = """\
Brains prepared by vol3d prepare from the raw scans of: {name}

sub-*/anat/*_desc-brain_{kind}.nii.gz   the brain on the template's grid; its .json says what was done
sub-*/anat/*_desc-brain_mask.nii.gz  where the brain is
sourcedata/sub-*/*_xfm.txt           the transform, as ITK and ANTs apply it to move the raw scan onto
                                     the template (points of the template to points of the scan,
                                     mm, LPS+); its .json keeps the raw scan's grid
sourcedata/qc/                       a table of numbers and a picture to look at

vol3d restore takes an image on the template's grid back to the raw scan's.
"""


class Prepare(Steps):
    """Prepare raw scans: vol3d prepare BIDS_DIR OUT [grid=2mm] [align=rigid] [jobs=4].

    Writes a BIDS derivatives dataset to train on. Run it again to make only what is missing; a scan
    that fails does not stop the others.
    """

    positional: ClassVar[tuple[str, ...]] = ("bids_dir", "out")
    bids_dir: Path
    """The raw dataset, the folder with participants.tsv."""
    out: Path
    """Folder to write; new, empty, or one of the same settings."""
    contrasts: Names = ["T1w"]
    """Which kinds of image, by the last word of their names: T1w, or [T1w, FLAIR]. The first is aligned
    to the template, the others of a visit to the first; a visit without the first is left out."""
    entities: Entities = Field(default_factory=dict)
    """What the file names must say, where a person has several: {acq: mprage, run: 1}."""
    first_run: bool = False
    """Where the files of a scan differ in their run alone, take the first one."""
    labels_entities: Entities | None = None
    """Bring label maps along whose names say this, {} for any; without it none are looked for."""
    subjects: Names | None = None
    """Only these people."""
    exclude: Names = Field(default_factory=list)
    """Not these people."""
    form: Form | None = None
    """sform or qform: what holds where a header says two things about left and right."""
    jobs: PositiveInt | None = None
    """Scans at a time, each on one core; as many as it may use if not given."""
    shard: Shard = ALL
    """Prepare only a share, so that several processes make one dataset: 2/4 is the second of four."""

    def execute(self) -> list[Path]:
        """Prepare every scan that is not there yet, then the tables and the picture."""
        there = self.source().scans()
        scans = self.with_first(there)
        with at_work(self.out, [self.settings(), [s.name for s in scans]], self.shard):
            return self.work(scans, there)

    def work(self, scans: list[Visit], there: list[Visit]) -> list[Path]:
        """Prepare what is missing of our share, in a folder that is ours or is made so."""
        place = Place(self.out, self.bids_dir, self.contrasts[0])
        self.claim()
        ours = share(scans, self.shard)
        missing = [s for s in ours if not self.is_made(s, place)]
        jobs = max(1, min(self.jobs or own_cores(), len(missing)))
        self.announce(scans, ours, missing, jobs)
        self.warn(scans, there)
        failed, stages = {}, {}
        with Bar("prepare", len(ours), len(ours) - len(missing)) as bar:

            def say() -> None:
                at = Counter(stages.values())
                words = [f"{at[stage]} at the {stage}" for stage in STAGES if at[stage]]
                bar.say(", ".join(words + ([f"{len(failed)} failed"] if failed else [])))

            def on_stage(name: str, stage: str) -> None:
                stages[name] = stage
                say()

            for scan, reason in side_by_side(missing, place, self, jobs, on_stage):
                stages.pop(scan.name, None)
                if reason is not None:
                    failed[scan.name] = reason
                    log.error("%s failed: %s", scan.name, reason)
                say()
                bar.advance()

        def made() -> list[Visit]:
            return [s for s in scans if self.is_made(s, place)]

        done = made()
        left = len(scans) - len({s.name for s in done} | set(failed))
        tell(self.shard, left, len(scans), "scans")
        results = []
        if done and not left:
            results = sum_up(made, lambda now: self.write_results(now, place))
        if failed:
            raise RunError(
                f"{len(failed)} of {len(ours)} scans failed, the others are in {self.out}: "
                + "; ".join(f"{name} ({failed[name]})" for name in sorted(failed))
            )
        return [self.out, *results]

    def foresee(self) -> None:
        """What a dry run says beside the settings; it refuses what a run would."""
        there = self.source().scans()
        scans = self.with_first(there)
        if not is_free(self.out):
            self.check_folder()
        log.info("would prepare %s", counted(scans))
        self.warn(scans, there)

    def warn(self, scans: list[Visit], there: list[Visit]) -> None:
        """Tell who is left out, and why."""
        first, lines = self.contrasts[0], self.source().doubts(scans)
        if lacking := [v.who for v in there if first not in v.images]:
            lines.insert(
                0, f"{len(lacking)} visits have no {first} and are left out: {few(lacking)}"
            )
        for line in lines:
            log.warning("warning: %s", line)

    def announce(
        self, scans: list[Visit], ours: list[Visit], missing: list[Visit], jobs: int
    ) -> None:
        """Say at once what there is to do, and what the tables will lack when it is done."""
        share = f"; shard {self.shard} is {len(ours)}" if self.shard != ALL else ""
        log.info("%s%s; %d to prepare, %d at a time", counted(scans), share, len(missing), jobs)
        known = {c for s in scans for c, value in s.covariates.items() if value is not None}
        measured = MEASURED if self.contrasts[0] == "T1w" else ["brain_ml"]
        if lacking := [c for c in ASKED_FOR if c not in {*known, *measured}]:
            log.warning(
                "warning: no scan has %s, which the diffusion configs ask for: add what you have to "
                "participants.tsv of %s, or take them away in training (task.covariates.%s=null)",
                *(", ".join(lacking), self.bids_dir, lacking[-1]),
            )

    def with_first(self, there: list[Visit]) -> list[Visit]:
        """Those visits that have the first contrast; a DataError where none has."""
        first = self.contrasts[0]
        found = [v for v in there if first in v.images]
        if not found:
            raise DataError(
                f"{self.bids_dir}: no visit has a {first}; name another first of contrasts"
            )
        return found

    def source(self) -> Bids:
        """The raw scans."""
        return Bids(
            path=self.bids_dir,
            contrasts=self.contrasts,
            entities=self.entities,
            first_run=self.first_run,
            mask_entities=None,
            labels_entities=self.labels_entities,
            subjects=self.subjects,
            exclude=self.exclude,
            form=self.form,
        )

    def settings(self) -> dict[str, Any]:
        """What makes a scan come out as it does."""
        name = self.raw_description().get("Name", self.bids_dir.resolve().name)
        return {"raw": name, **{k: v for k, v in self.dump().items() if k not in RUN_ONLY}}

    def raw_description(self) -> dict[str, Any]:
        """What the raw dataset says about itself."""
        path = self.bids_dir / DESCRIPTION
        return read_json(path) if path.is_file() else {}

    def claim(self) -> None:
        """Take a free folder by describing it, or check that it is ours and of the same settings."""
        if is_free(self.out):
            self.write_top(keep=True)  # of several at once, the first one's; all read that
        self.check_folder()
        self.write_top()

    def check_folder(self) -> None:
        """Check that the folder is ours and of the same settings."""
        made_by = read_maker(self.out)
        if made_by.get("Name") != "vol3d prepare":
            raise ConfigError(f"{self.out}: holds something else; name another folder")
        before, now = under(made_by, "Settings"), self.settings()
        if changed := sorted(k for k in {*before, *now} if before.get(k) != now.get(k)):
            raise ConfigError(
                f"{self.out}: was prepared with other settings ({', '.join(changed)}); "
                f"name another folder"
            )

    def write_top(self, *, keep: bool = False) -> None:
        """dataset_description.json and README; `keep` leaves a description that is there."""
        raw = self.raw_description()
        doi = raw.get("DatasetDOI")
        made_by = {
            "Name": "vol3d prepare",
            "Description": "brain mask, bias field, alignment to MNI152, resampling, intensity",
            "Settings": self.settings(),
        }
        name = self.settings()["raw"]
        write_description(
            self.out,
            f"{name}, prepared",
            raw.get("License", "That of the raw scans"),
            made_by,
            {
                "SourceDatasets": [{"DOI": doi} if doi else {"URL": self.raw_link()}],
                "DatasetLinks": {"raw": self.raw_link()},
            },
            keep=keep,
        )
        write_text(self.out / "README", README.format(name=name, kind=self.contrasts[0]), keep=keep)

    def raw_link(self) -> str:
        """The raw dataset, seen from this one."""
        return Path(os.path.relpath(self.bids_dir, self.out)).as_posix()

    def is_made(self, scan: Visit, place: Place) -> bool:
        """Whether all files of a scan are there, made from the raw file as it is now."""
        sidecar = sidecar_of(place.image(scan, self))
        if not all(path.is_file() for path in (sidecar, *place.files(scan, self))):
            return False
        said = read_json(sidecar)
        # Without all measures it was made by a vol3d of before.
        measured = {*MEASURED, *LEAST, *MOST} <= under(said, "QC").keys()
        return measured and said.get("SourceSHA256") == digest(scan)

    def write_results(self, scans: list[Visit], place: Place) -> list[Path]:
        """The people's tables, the QC table and the montage of all scans that are complete."""
        images = [place.image(s, self) for s in scans]
        measures = [qc_row(image) for image in images]
        columns = dict.fromkeys(c for row in measures for c in row)  # a visit may lack a contrast
        measures = [{**columns, **row} for row in measures]
        write_tables(self.bids_dir, self.out, scans, measures)
        words = flags(measures)
        folder = make_folder(self.out / "sourcedata" / "qc")
        rows = [
            {"scan": s.name, **m, "flag": w or None}
            for s, m, w in zip(scans, measures, words, strict=True)
        ]
        write_tsv(folder / "qc.tsv", rows)
        for row in rows:
            if row["flag"]:
                log.warning("warning: %s stands out: %s", row["scan"], row["flag"])
        write_montage(folder / "qc_montage.png", images, rows)
        return [folder / "qc.tsv", folder / "qc_montage.png"]
