"""A T2w that lies a little off its T1w goes with it onto the template, once resampled."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from tests.verbs.test_prepare import name, write_person
from vol3d.data.datasets import Bids
from vol3d.data.preparation.alignment import move
from vol3d.data.tables import read_rows
from vol3d.errors import DataError
from vol3d.verbs.prepare import Prepare
from vol3d.verbs.restore import Restore
from vol3d.volume import Grid, Volume

QUICK = {"grid": "4mm", "bias": None, "jobs": 1, "contrasts": ["T1w", "T2w"]}


def add_t2w(folder: Path, person: str) -> None:
    """The contrast turned over, and the head turned by 3 degrees and moved by 4 mm since the T1w."""
    t1w = Volume.read(folder / f"sub-{person}/anat/sub-{person}_T1w.nii.gz")
    turn = sitk.Euler3DTransform()
    middle = t1w.affine[:3] @ [55, 55, 45, 1]
    turn.SetCenter((middle * [-1, -1, 1]).tolist())
    turn.SetRotation(0.0, 0.0, np.deg2rad(3.0))
    turn.SetTranslation((0.0, 4.0, 0.0))
    inside = t1w.data > 50
    turned = Volume(inside * (1100 - t1w.data), t1w.affine)
    axial = np.diag([-1.5, 1.5, 3.0, 1.0])
    axial[:3, 3] = [100.0, -130.0, -110.0]
    t2w = move(turned, turn, Grid((130, 150, 80), axial))
    t2w.write(folder / f"sub-{person}/anat/sub-{person}_T2w.nii.gz")


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    for person, nod in (("01", 6.0), ("02", -6.0), ("03", 0.0)):
        write_person(folder, person, nod)
    add_t2w(folder, "01")
    add_t2w(folder, "03")
    (folder / "sub-03/anat/sub-03_T1w.nii.gz").unlink()
    (folder / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\nsub-02\t40\n")
    (folder / "dataset_description.json").write_text('{"Name": "three", "BIDSVersion": "1.9.0"}')
    return folder


def test_contrasts_of_a_visit_lie_on_each_other(raw: Path, tmp_path: Path, caplog):
    out = tmp_path / "p"
    prepare = Prepare.parse({"bids_dir": raw, "out": out, **QUICK})
    prepare.execute()
    assert "1 visits have no T1w and are left out: sub-03" in caplog.text
    one, two = Bids.parse(
        {"path": out, "entities": {"desc": "brain"}, "contrasts": ["T1w", "T2w"]}
    ).scans()
    assert (list(one.images), list(two.images)) == (["T1w", "T2w"], ["T1w"])
    t1w, t2w = (Volume.read(path) for path in one.images.values())
    assert t1w.grid.matches(t2w.grid)
    at = (t1w.data > 0.3) & (t2w.data > 0)
    assert np.corrcoef(t1w.data[at], t2w.data[at])[0, 1] < -0.9
    measured = read_rows(out / "sourcedata/qc/qc.tsv")
    assert float(measured[0]["moved_mm_T2w"]) == pytest.approx(4.7, abs=1.0)  # 4 mm and the turn
    assert measured[1]["moved_mm_T2w"] == "n/a"
    sidecar = json.loads(
        (out / name("01", "desc-brain_T2w").replace(".nii.gz", ".json")).read_text()
    )
    assert sidecar["Description"] == "T2w brain, rigidly aligned to the T1w"
    made = one.images["T2w"].stat().st_mtime_ns
    prepare.execute()
    assert one.images["T2w"].stat().st_mtime_ns == made
    back = tmp_path / "back.nii.gz"
    Restore(image=one.images["T2w"], out=back, xfm=out / sidecar["Transform"]).execute()
    native = Volume.read(raw / "sub-01/anat/sub-01_T2w.nii.gz")
    restored = Volume.read(back)
    assert restored.grid.matches(native.grid)
    coarse = ndimage.gaussian_filter(native.data, 2 / np.array(native.spacing))  # as 4 mm show it
    at = restored.data > 0.2
    alike = [np.corrcoef(np.roll(coarse, k, 1)[at], restored.data[at])[0, 1] for k in (-2, 0, 2)]
    assert alike[1] > max(alike[0], alike[2]) + 0.05


def test_nobody_has_the_first_contrast(raw: Path, tmp_path: Path):
    with pytest.raises(DataError, match="no visit has a T2w"):
        Prepare.parse(
            {
                "bids_dir": raw,
                "out": tmp_path / "p",
                **QUICK,
                "contrasts": ["T2w", "T1w"],
                "subjects": "02",
            }
        ).execute()
