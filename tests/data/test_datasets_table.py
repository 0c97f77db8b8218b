"""Tables of scans: paths, covariates, sessions, and what is said when a row is not right."""

import numpy as np
import pytest

from vol3d.data.datasets import Table
from vol3d.errors import ConfigError, DataError
from vol3d.volume import Volume


@pytest.fixture
def folder(tmp_path):
    for name in ("a1", "a2", "b"):
        Volume(np.ones((2, 2, 2), np.uint8), np.eye(4)).write(tmp_path / f"{name}.nii.gz")
    return tmp_path


def table(folder, text: str) -> Table:
    (folder / "scans.tsv").write_text(text.replace(" ", "\t"))
    return Table(path=folder / "scans.tsv")


def test_scans(folder):
    source = table(
        folder,
        "subject session image labels split age site\n"
        "b n/a b.nii.gz b.nii.gz val 40 x\n"
        "sub-a ses-2 a2.nii.gz n/a train n/a y\n"
        "sub-a ses-1 a1.nii.gz n/a train 30 y\n",
    )
    one, two, b = source.scans()
    assert [s.name for s in (one, two, b)] == ["sub-a_ses-1", "sub-a_ses-2", "sub-b"]
    assert two.covariates == {"age": None, "site": "y"}
    assert b.image == b.label_map == folder / "b.nii.gz"
    assert (one.label_map, one.split, b.split) == (None, "train", "val")


def test_participant_id_and_hashed_splits(folder):
    source = table(folder, "participant_id image\nsub-a a1.nii.gz\nsub-b b.nii.gz\n")
    assert [s.subject for s in source.scans()] == ["a", "b"]
    told = {s.split for s in source.model_copy(update={"val_fraction": 0.0}).scans()}
    assert told == {"train"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject age\na 3\n", "has no column 'image'"),
        ("image age\na.nii 3\n", "has no column 'subject'"),
        ("subject image\na zz.nii.gz\n", "subject 'a' names 'zz.nii.gz', no such file"),
        ("subject image\na n/a\n", "the row of subject 'a' names no image"),
        ("subject image\na a1.nii.gz\na a2.nii.gz\n", "two rows are of sub-a; keep one, or tell"),
        ("subject image split\na a1.nii.gz test\n", "split is 'test', train or val is due"),
        (
            "subject session image split\na 1 a1.nii.gz val\na 2 a2.nii.gz train\n",
            "subject 'a' is in both train and val",
        ),
    ],
)
def test_bad_rows(folder, text, message):
    with pytest.raises(DataError, match=message):
        table(folder, text).scans()


def test_no_such_table(tmp_path):
    with pytest.raises(ConfigError, match="no such table"):
        Table(path=tmp_path / "x.tsv").scans()
