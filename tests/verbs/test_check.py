"""A look at data before hours are spent: what is there, what would lack later, what is refused."""

import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tests.conftest import (
    AUTOENCODER,
    DIFFUSION,
    LABEL_DIFFUSION,
    SEGMENTER,
    data_words,
    verb,
    vol3d,
)
from vol3d.cli import fill, load_verb
from vol3d.data.datasets import Bids
from vol3d.data.images import Images
from vol3d.errors import ConfigError, DataError
from vol3d.volume import Volume

COVARIATES = "task.covariates={age: {unit: years}, sex: {kind: category}, icv_ml: {unit: ml}}"


def test_what_is_there(cohort: Path, tmp_path: Path, capsys, caplog):
    picture = tmp_path / "look.png"
    assert verb("check", *data_words(cohort), *DIFFUSION, f"picture={picture}") == [picture]
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    lines = {key: value.strip() for key, value in lines.items()}
    assert lines["scans"] == "12 scans of 12 people"
    assert lines["held out"] == "2 scans of 2 people"
    assert lines["grid"] == "40x56x40 voxels of 4x4x4 mm, RAS: 12 of 12"
    assert lines["sex"] in ("F (6), M (6)", "M (6), F (6)")
    assert "10 people to learn from are few" in caplog.text
    tall, wide = plt.imread(picture).shape[:2]
    assert tall > wide > 500  # three people, one above the other


@pytest.fixture
def told_otherwise(cohort: Path, tmp_path: Path) -> Path:
    """The cohort, with `Age` and `Gender`."""
    copy = tmp_path / "cohort"
    shutil.copytree(cohort, copy)
    table = copy / "participants.tsv"
    table.write_text(table.read_text().replace("\tage\tsex", "\tAge\tGender"))
    return copy


def test_what_later_stages_lack_is_told_before_the_first(told_otherwise: Path, tmp_path: Path):
    run = tmp_path / "run"
    words = [*data_words(told_otherwise), *AUTOENCODER, COVARIATES, "total_nimg=2"]
    done = vol3d("train", f"run={run}", *words, "--dry-run")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "will be refused" in line]
    assert "covariates age, sex, icv_ml: no training scan has them" in line
    assert "(age may be 'Age'; sex may be 'Gender')" in line
    assert not run.exists()


def test_what_a_model_lacks_is_refused_once(latents: Path, told_otherwise: Path, tmp_path: Path):
    words = ["data.kind=latents", f"data.path={latents}", *DIFFUSION, COVARIATES, "total_nimg=2"]
    done = vol3d("train", f"run={tmp_path / 'run'}", *words)
    assert done.returncode == 2
    assert done.stderr.count("icv_ml: no training scan has it") == 1
    assert not (tmp_path / "run").exists()
    with pytest.raises(
        ConfigError, match="covariates age, sex: no"
    ):  # of the scans, before all else
        verb("check", *DIFFUSION, *data_words(told_otherwise), "data.tables=[]")


def test_dry_runs_refuse_what_runs_refuse(
    autoencoder: Path, cohort: Path, diffusion: Path, told_otherwise: Path, tmp_path: Path
):
    scan = next(told_otherwise.glob("sub-0001/anat/*T1w.nii.gz"))
    for run in ("1", "2"):
        shutil.copy(scan, scan.with_name(scan.name.replace("_desc", f"_run-{run}_desc")))
    ambiguous = data_words(told_otherwise)
    out, run = tmp_path / "out", tmp_path / "run"
    table = tmp_path / "asked.tsv"
    table.write_text("Age\n30\n")
    for words, error, line in [
        (["encode", autoencoder, out, *ambiguous], DataError, "3 files match"),
        (["encode", autoencoder, tmp_path, *data_words(cohort)], ConfigError, "holds something"),
        (
            ["train", f"run={run}", *AUTOENCODER, *ambiguous, "total_nimg=2"],
            DataError,
            "3 files match",
        ),
        (["generate", diffusion, out, "sex=f"], ConfigError, "unknown level"),
        (["generate", diffusion, out, "ventricles_ml=-5"], ConfigError, "no volume is that"),
        (["generate", diffusion, out, f"covariates={table}"], ConfigError, "Did you mean 'age'"),
        (["generate", diffusion, cohort], ConfigError, "another origin"),
        (["prepare", told_otherwise, out], DataError, "3 files match"),
        (["evaluate", out, f"generator={diffusion}", *ambiguous], DataError, "3 files match"),
    ]:
        settings = fill(words[0], load_verb(words[0]), [str(w) for w in words[1:]])
        with pytest.raises(error, match=line):
            settings.foresee()
    assert not out.exists()
    assert not run.exists()


@pytest.mark.parametrize("asked", ["task.structures", "task.target.structures"])
def test_labels_that_no_map_has_are_refused(cohort: Path, asked: str):
    training = SEGMENTER if asked == "task.structures" else LABEL_DIFFUSION
    words = [*data_words(cohort), *training, f"{asked}.lesions_ml=[77,78]"]
    line = rf"{asked}: none of the 10 label maps .* of lesions_ml \[77, 78\]; the first, .*0, 1, 2"
    with pytest.raises(DataError, match=line):
        verb("check", *words)


def test_fractions_are_no_labels(cohort: Path, tmp_path: Path):
    shutil.copytree(cohort, copy := tmp_path / "cohort")
    for path in copy.glob("sub-*/anat/*dseg.nii.gz"):
        labels = Volume.read(path)
        Volume(labels.data * np.float32(0.9), labels.affine, 4).write(path)
    words = [*data_words(copy), *SEGMENTER, "total_nimg=2", f"run={tmp_path / 'run'}"]
    with pytest.raises(DataError, match=r"_dseg.nii.gz: holds values that are 0\.\d+ off a whole"):
        verb("train", *words)
    assert not (tmp_path / "run" / "log.jsonl").exists()
    source = Bids(path=copy, entities={"desc": "brain"}, labels_entities={"desc": "tissue"})
    with pytest.raises(DataError, match="off a whole number"):
        Images(source, may=["labels"])
