"""What all datasets share: choosing people, splitting them, and adding measured volumes."""

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, PositiveInt, field_validator

from vol3d.config import Config, did_you_mean, several
from vol3d.data.covariate_types import level_of
from vol3d.data.label_map import whole_labels
from vol3d.data.splits import check_split, draw_split
from vol3d.data.structure_volumes import Labels, measure_volumes
from vol3d.data.summary import grid_by_header
from vol3d.data.tables import VolumeTable, bare, check_known, unmatched
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError, DataError
from vol3d.io.header import Form, read_header
from vol3d.volume import Grid, Volume, mni_grid

Text = Annotated[str, Field(coerce_numbers_to_str=True)]
Names = Annotated[list[Text], BeforeValidator(several)]
"""Names of people or levels; one may stand alone."""
GridName = Annotated[str, Field(pattern=r"^(own|[0-9]+(\.[0-9]+)?mm)$")]
"""The field of view of 160 x 224 x 160 mm in MNI space, and its spacing: 1mm, 2mm, 1.5mm; or own."""
OWN = ("own",)

SPACING = "spacing_mm"
"""The covariate that tells a model the voxel size."""


def grids_named(given: Any) -> Any:
    """One name stands for a list of one; null for none."""
    return several(given) or ()


class Dataset(Config, ABC):
    """Where scans come from. A kind of dataset says in `find()` which there are."""

    are: ClassVar[str] = "scans"
    """What is in it, in a word."""

    subjects: Names | None = None
    """Only these people; all of them if not given."""
    exclude: Names = Field(default_factory=list)
    """Not these people, for example because a scan is spoilt."""
    val_fraction: float = Field(default=0.15, ge=0, lt=1)
    """Share of people kept for validation, where the table has no column `split`."""
    split_seed: int = 0
    """Another seed draws other people for validation."""
    people: PositiveInt | None = None
    """Learn from so many people only, of those who have what the task needs; null: from all. Whom, a hash
    of their names says: more people are these and others. Those held out stay."""
    people_seed: int = 0
    """Another seed draws other people to learn from."""
    volumes: dict[str, Labels] = Field(default_factory=dict)
    """Covariates to measure from the label maps, in ml: name -> labels, or ranges like 10-12."""
    tables: Annotated[list[VolumeTable], BeforeValidator(several)] = Field(default_factory=list)
    """Covariates in ml from the tables of FreeSurfer or SynthSeg."""
    levels: dict[str, dict[str, Names]] = Field(default_factory=dict)
    """What else a level is called in the tables: {sex: {M: [m, male], F: [f, female]}}."""
    grid: Annotated[tuple[GridName, ...], BeforeValidator(grids_named)] = ()
    """Resample all scans to the field of view of 160 x 224 x 160 mm in MNI space at this spacing,
    e.g. 2mm; [1mm, 2mm] reads every scan at both. Without it the scans share a grid of their own.
    The covariate spacing_mm tells which. own leaves each scan where it lies: shapes, places may differ,
    voxel sizes may not; train on patches then."""

    form: Form | None = None
    """sform or qform: what holds where a header says two things about left and right. Without it such
    scans are refused, and where the two differ by less, the sform holds."""

    @field_validator("grid")
    @classmethod
    def check_grid(cls, grid: tuple[str, ...]) -> tuple[str, ...]:
        """Each scan lies on its own grid, or on those that are named."""
        if "own" in grid and grid != OWN:
            raise ValueError(f"grid={list(grid)}: own stands alone")
        return grid

    def main_contrast(self, visits: list[Visit]) -> str:
        """What most tasks learn from: the first contrast of most visits."""
        return Counter(next(iter(v.images)) for v in visits).most_common(1)[0][0]

    @abstractmethod
    def find(self) -> list[Visit]:
        """All scans there are, with the covariates of the dataset's own tables."""

    def scans(self) -> list[Visit]:
        """The chosen scans with all covariates, sorted by name.

        A covariate of `tables` or `volumes` replaces a column of the same name.

        Raises:
            ConfigError: no such folder, or a setting names people whom the dataset does not have.
            DataError: a file or table is not as it should be.
        """
        scans = rename_levels(self.chosen(), self.levels)
        for table in self.tables:
            scans = add_table(scans, table)
        if self.volumes:
            scans = add_volumes(scans, self.volumes)
        return sorted(self.on_grids(scans), key=lambda s: s.name)

    def of_images_alone(self) -> Self:
        """The same without grids, label maps and covariates: for what looks at images where they lie."""
        return self.model_copy(update={"grid": (), "volumes": {}, "tables": [], "levels": {}})

    def lies_on(self, scans: list[Visit]) -> str:
        """The grid of the scans in words: those that are named, or that of the first by its header."""
        if self.grid == OWN:
            return f"each on a grid of its own, the first on {grid_by_header(scans[0])}"
        if self.grid:
            return f"resampled to {' and '.join(self.target_grids())}"
        return f"on {grid_by_header(scans[0])}"

    def doubts(self, scans: list[Visit]) -> list[str]:
        """What is odd about how files and tables go together, a line each: nothing is refused for it."""
        visits = {(s.subject, s.session) for s in scans}
        return [line for t in self.tables for line in unmatched(t.path, set(t.read()), visits)]

    def chosen(self) -> list[Visit]:
        """The scans of the people who are wanted.

        Raises:
            ConfigError: a setting names people whom the dataset does not have.
            DataError: nobody is left, or somebody's name cannot be that of a file.
        """
        scans = self.find()
        for scan in scans:
            check_name(scan)
        known = {s.subject for s in scans}
        check_known(self.subjects or [], known, "subjects")
        check_known(self.exclude, known, "exclude")
        wanted = known if self.subjects is None else {bare(s) for s in self.subjects}
        wanted = wanted - {bare(s) for s in self.exclude}
        scans = [s for s in scans if s.subject in wanted]
        if not scans:
            raise DataError("no scan is left after `subjects` and `exclude`; choose fewer of them")
        return [replace(scan, form=self.form) for scan in scans]

    def on_grids(self, scans: list[Visit]) -> list[Visit]:
        """Every scan once for each grid that it is to be read on, told its voxel size."""
        if not self.target_grids():
            return scans
        return [
            replace(
                scan,
                res=name if len(self.grid) > 1 else None,
                covariates={**scan.covariates, SPACING: grid.spacing[0]},
            )
            for scan in scans
            for name, grid in self.target_grids().items()
        ]

    def target_grids(self) -> dict[str, Grid]:
        """The grids to resample to, finest first; none to keep the scans' own."""
        spacings = sorted({float(n.removesuffix("mm")) for n in self.grid if n not in OWN})
        return {f"{s:g}mm": mni_grid(s) for s in spacings}

    def split_of(self, subject: str, told: str | None) -> str:
        """The person's split: as the table tells, else drawn by a hash of the name."""
        if told is not None:
            return check_split(told, f"sub-{subject}")
        return draw_split(subject, self.val_fraction, self.split_seed)


def check_name(scan: Visit) -> None:
    """A scan's name becomes that of files, which must stay in their folder.

    Raises:
        DataError: it cannot.
    """
    if not scan.name.isprintable() or set(scan.name) & set("/\\"):
        raise DataError(
            f"{scan.image}: is of {scan.name!r}, whose name cannot be that of a file; take letters, "
            f"digits and hyphens"
        )


def rename_levels(scans: list[Visit], levels: dict[str, dict[str, list[str]]]) -> list[Visit]:
    """Give levels that go by several names one of them.

    Raises:
        ConfigError: no scan has such a covariate.
    """
    known = sorted({name for s in scans for name in s.covariates})
    for name in levels:
        if name not in known:
            raise ConfigError(
                f"levels.{name}: no scan has this covariate.{did_you_mean(name, known)} "
                f"The tables have: {', '.join(known) or 'none'}."
            )
    called = {
        n: {level_of(o): level for level, others in of.items() for o in others}
        for n, of in levels.items()
    }
    return [
        replace(
            s,
            covariates={
                n: called.get(n, {}).get(level_of(v), v) if v is not None else None
                for n, v in s.covariates.items()
            },
        )
        for s in scans
    ]


def add_table(scans: list[Visit], table: VolumeTable) -> list[Visit]:
    """Add the volumes of an external table; None for scans that are not in it.

    Raises:
        DataError: the table has none of the scans.
    """
    people = table.read()
    empty = dict.fromkeys(table.columns)
    found = [people.get((s.subject, s.session), people.get((s.subject, None))) for s in scans]
    if not any(found):
        first = " ses-".join(part for part in next(iter(people)) if part)
        raise DataError(
            f"{table.path}: has none of the {len(scans)} scans; it names its rows like '{first}', "
            f"the scans are named like '{scans[0].name}'"
        )
    return [
        replace(s, covariates={**s.covariates, **(row or empty)})
        for s, row in zip(scans, found, strict=True)
    ]


def add_volumes(scans: list[Visit], structures: dict[str, Labels]) -> list[Visit]:
    """Add the volumes measured from the label maps; None for scans that have no label map.

    Raises:
        DataError: no scan has a label map, or no label map has any of a structure's labels.
    """
    if not any(s.label_map for s in scans):
        raise DataError(
            f"volumes: no scan has a label map to measure {', '.join(structures)} in; "
            f"say where the label maps are"
        )
    out = []
    for scan in scans:
        measured = dict.fromkeys(structures)
        if scan.label_map:
            told = tuple((name, tuple(ids)) for name, ids in structures.items())
            changed = scan.label_map.stat().st_mtime_ns
            measured = measure(scan.label_map, changed, scan.form, told)
        out.append(replace(scan, covariates={**scan.covariates, **measured}))
    for name, ids in structures.items():
        if not any(s.covariates[name] for s in out):
            raise DataError(f"volumes.{name}: no label map has any of the labels {ids}")
    return out


@cache
def measure(
    label_map: Path, changed_ns: int, form: Form | None, structures: tuple
) -> dict[str, float]:
    """See `measure_volumes`. A file is read once: data are looked at, and then learnt from."""
    labels = whole_labels(Volume.of(read_header(label_map, form)), label_map)
    return measure_volumes(labels, dict(structures))
