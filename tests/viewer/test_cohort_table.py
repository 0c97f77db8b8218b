"""A cohort to leaf through: filters, order, flags, one contrast scale; nothing is read too early."""

import resource
import time
from pathlib import Path

import numpy as np
import pytest

from vol3d.data.bids_writer import anat_path, write_description, write_json, write_tsv
from vol3d.errors import ConfigError, DataError
from vol3d.viewer.cohort import FLAG, Cohort
from vol3d.viewer.folders import GENERATED_LIMITS
from vol3d.volume import Volume

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
ROWS = [
    {"participant_id": "sub-01", "age": 71.5, "sex": "F"},
    {"participant_id": "02", "age": 35, "sex": "M"},
    {"participant_id": "sub-03", "age": None, "sex": "F"},
    {"participant_id": "sub-04", "age": 8, "sex": "F"},
]


def brain(scale: float) -> Volume:
    x = np.zeros((12, 12, 12), np.float32)
    x[2:10, 2:10, 2:10] = np.random.default_rng(0).uniform(0.4, 1, (8, 8, 8))
    return Volume(x * scale, AFFINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tsv(tmp_path / "participants.tsv", ROWS)
    brain(1000).write(anat_path(tmp_path, "sub-01", {}, "T1w"))
    brain(0.5).write(anat_path(tmp_path, "sub-01", {}, "FLAIR"))
    Volume((brain(1).data > 0).astype(np.uint8), AFFINE).write(
        anat_path(tmp_path, "sub-01", {"desc": "tissue"}, "dseg")
    )
    return tmp_path


def people(cohort: Cohort) -> list[str]:
    return [cohort.who(i) for i in cohort.shown]


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ("", "01 02 03 04"),
        ("age>20", "01 02"),
        ("age>=8 age<71.5", "02 04"),
        ("sex=F age!=8", "01"),
        ("sex!=F", "02"),
        ("age=35.0", "02"),
        ("SUB-03", "03"),
        ("sex=X", ""),
    ],
)
def test_conditions(folder: Path, conditions: str, found: str):
    cohort = Cohort.open(folder)
    cohort.choose(conditions)
    assert people(cohort) == [f"sub-{name}" for name in found.split()]


def test_a_column_that_is_not_there(folder: Path):
    with pytest.raises(ConfigError, match=r"no column 'agee'\. Did you mean 'age'\?"):
        Cohort.open(folder).choose("agee>3")


def test_order_of_numbers_with_what_is_missing_last(folder: Path):
    cohort = Cohort.open(folder)
    cohort.sort("age")
    assert people(cohort) == ["sub-04", "sub-02", "sub-01", "sub-03"]
    cohort.sort("age", descending=True)
    assert people(cohort) == ["sub-01", "sub-02", "sub-04", "sub-03"]


def test_visits_are_rows(tmp_path: Path):
    rows = [{"participant_id": "sub-01", "session_id": s, "age": 60} for s in ("ses-a", "b")]
    write_tsv(tmp_path / "participants.tsv", rows)
    for session in "ab":
        brain(1).write(anat_path(tmp_path, f"sub-01_ses-{session}", {}, "T1w"))
    cohort = Cohort.open(tmp_path)
    assert people(cohort) == ["sub-01_ses-a", "sub-01_ses-b"]
    assert [p.name for p in cohort.files(1)] == ["sub-01_ses-b_T1w.nii.gz"]


def test_real_and_generated_are_on_one_contrast_scale(folder: Path, tmp_path_factory):
    (image, settings, _), (_, labels, kind) = Cohort.open(folder).layers(0)
    white = settings["contrast_limits"][1]
    assert white == pytest.approx(np.percentile(image[image > 0], 99.5), rel=0.02)
    assert (kind, labels["visible"]) == ("labels", True)

    made = tmp_path_factory.mktemp("generated")
    write_tsv(made / "participants.tsv", [{"participant_id": "sub-01", "age": 70}])
    write_description(made, "x", "x", {"Name": "vol3d generate"})
    brain(1 / 1.2).write(anat_path(made, "sub-01", {}, "T1w"))
    ((generated, told, _),) = Cohort.open(made).layers(0)
    assert told["contrast_limits"] == GENERATED_LIMITS
    grey = generated.max() / told["contrast_limits"][1]
    assert grey == pytest.approx(image.max() / white, rel=0.02)


def test_an_evaluation_flags_whom_the_segmenter_finds_far_off(tmp_path: Path):
    folder = tmp_path / "closed_loop"
    folder.mkdir()
    write_tsv(folder / "participants.tsv", [{"participant_id": f"sub-{i}"} for i in (1, 2)])
    columns = ("image", "set", "structure", "reference_ml", "measured_ml")
    told = [("r1", "held-out", 30, 31), ("r2", "held-out", 40, 38), ("sub-1", "sample", 30, 31.5)]
    told.append(("sub-2", "sample", 30, 36))
    rows = [dict(zip(columns, (w, s, "v", a, b), strict=True)) for w, s, a, b in told]
    write_tsv(tmp_path / "measurements.tsv", rows)
    write_json(tmp_path / "summary.json", {"amiss": ["The slope is off."]})
    for opened in (Cohort.open(folder), Cohort.open(tmp_path)):
        assert [row[FLAG] for row in opened.rows] == [1.5, 6.0]
        assert [opened.is_flagged(i) for i in (0, 1)] == [False, True]
        assert opened.evaluated.amiss == ["The slope is off."]


def test_what_is_no_cohort_is_said(tmp_path: Path, folder: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no participants\.tsv, and no folders sub-"):
        Cohort.open(tmp_path / "empty")
    with pytest.raises(DataError, match="has no image of sub-02"):
        Cohort.open(folder).layers(1)


def test_a_thousand_people_open_at_once_and_take_no_memory(tmp_path: Path):
    """2 seconds on a machine that does nothing else."""
    rows = [
        {"participant_id": f"sub-{i:04d}", "age": i % 90, "sex": "FM"[i % 2]} for i in range(1000)
    ]
    write_tsv(tmp_path / "participants.tsv", rows)
    for i in range(1000):
        (tmp_path / f"sub-{i:04d}" / "anat").mkdir(parents=True)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cohort = Cohort.open(tmp_path)
    cohort.choose("age>60 sex=F")
    cohort.sort("age", descending=True)
    assert time.perf_counter() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB
    assert len(cohort.shown) == sum(r["age"] > 60 and r["sex"] == "F" for r in rows)
