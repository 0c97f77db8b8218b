"""From raw scans to a dataset and back to native space, with scans made from the template."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from tests.conftest import assert_valid_bids
from vol3d.data.datasets import Bids
from vol3d.data.images import Images
from vol3d.data.preparation.alignment import move, template_volume
from vol3d.data.preparation.derivatives import Place
from vol3d.data.preparation.parallel import side_by_side
from vol3d.data.preparation.pipeline import STAGES, Steps
from vol3d.data.preparation.tables import write_tables
from vol3d.data.tables import read_rows
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError, RunError
from vol3d.verbs.prepare import Prepare
from vol3d.verbs.restore import Restore
from vol3d.volume import Grid, Volume, mni_grid

QUICK = {"grid": "4mm", "bias": None, "jobs": 1, "labels_entities": {"desc": "spots"}}
SPOTS = [(-30.0, -40.0, 20.0), (30.0, 0.0, 30.0), (0.0, 30.0, 10.0)]  # MNI mm, one label each


def write_person(folder: Path, name: str, nod_degrees: float, taken_off: float = 0.0) -> None:
    """A stripped brain in an oblique, flipped, anisotropic grid; with balls at known places.

    Its intensities reach 800, less what is taken off.
    """
    turn = sitk.Euler3DTransform()
    turn.SetRotation(np.deg2rad(nod_degrees), 0.05, -0.05)
    turn.SetTranslation((5.0, -8.0, 9.0))
    affine = np.diag([-2.0, 2.2, 2.6, 1.0])
    affine[:3, 3] = [110.0, -140.0, -120.0]
    affine[:3, :3] = affine[:3, :3] @ [[1, 0, 0], [0, 0.998, -0.06], [0, 0.06, 0.998]]
    grid = Grid((110, 110, 90), affine)
    fine = mni_grid(1.0)
    index = np.stack(np.meshgrid(*map(np.arange, fine.shape), indexing="ij"), -1)
    balls = np.zeros(fine.shape, np.uint8)
    for label, spot in enumerate(SPOTS, start=1):
        balls[np.linalg.norm(index + fine.origin - spot, axis=-1) < 12] = label
    head = move(template_volume(1.0), turn.GetInverse(), grid)
    labels = move(Volume(balls, fine.affine), turn.GetInverse(), grid, nearest=True)
    anat = folder / f"sub-{name}" / "anat"
    anat.mkdir(parents=True)
    Volume(800 * head.data - taken_off, grid.affine, 1).write(anat / f"sub-{name}_T1w.nii.gz")
    Volume(labels.data, grid.affine, 1).write(anat / f"sub-{name}_desc-spots_dseg.nii.gz")


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_person(folder, "01", 8.0)
    write_person(folder, "02", -8.0, taken_off=300.0)
    (folder / "participants.tsv").write_text(
        "participant_id\tage\nsub-01\t30\nsub-02\tn/a\nsub-03\t50\n"
    )
    description = {"Name": "two people", "BIDSVersion": "1.9.0", "License": "CC0"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    return folder


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "p"
    Prepare.parse({"bids_dir": raw, "out": out, **QUICK}).execute()
    return out


@pytest.fixture
def again(raw, prepared) -> Prepare:
    return Prepare.parse({"bids_dir": raw, "out": prepared, **QUICK})


def name(person: str, last: str) -> str:
    return f"sub-{person}/anat/sub-{person}_space-MNI152NLin2009aSym_res-4_{last}.nii.gz"


def test_it_is_a_dataset_to_train_on(prepared):
    words = {"path": prepared, "entities": {"desc": "brain"}, "labels_entities": {"desc": "spots"}}
    images = Images(Bids.parse({**words, "val_fraction": 0.0}), needs=["labels"])
    assert images.grid.matches(mni_grid(4.0))
    assert [s.covariates["age"] for s in images.train] == [30, None]
    x = images.image(images.train[0])[0]
    written = Volume.read(images.train[0].image).data
    assert np.abs(x - np.clip(written, 0, 1)).max() < 1e-3  # already on the networks' scale


def test_the_volume_of_the_brain_is_in_the_table_to_train_on(prepared):
    rows = read_rows(prepared / "participants.tsv")
    measured = read_rows(prepared / "sourcedata/qc/qc.tsv")
    said = json.loads((prepared / "participants.json").read_text())
    for column in ("brain_ml", "ventricles_ml"):
        assert [r[column] for r in rows] == [r[column] for r in measured]
        assert said[column]["Units"] == "mL"
        one, two = (float(r[column]) for r in rows)  # the same brain in two poses
        assert two == pytest.approx(one, rel=0.1)


def test_a_constant_that_was_taken_off_is_put_back_and_told(prepared):
    rows = read_rows(prepared / "sourcedata/qc/qc.tsv")
    assert [r["flag"] for r in rows] == ["n/a", "300 was put on all intensities"]
    one, two = (float(r["brain_ml"]) for r in rows)
    assert two == pytest.approx(one, rel=0.01)
    said = [
        json.loads((prepared / name(p, "desc-brain_T1w").replace(".nii.gz", ".json")).read_text())
        for p in ("01", "02")
    ]
    assert [s["IntensityOffset"] for s in said] == [0, 300]
    assert said[1]["IntensityOne"] == pytest.approx(said[0]["IntensityOne"], rel=0.02)


def test_what_was_measured_stands_with_the_visit_and_theirs_is_kept(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    for folder in (raw / "sub-a", out / "sub-a", out / "sub-b"):
        folder.mkdir(parents=True)
    (raw / "participants.tsv").write_text("participant_id\tsex\nsub-a\tF\nsub-b\tM\nsub-c\tM\n")
    (raw / "sub-a/sub-a_sessions.tsv").write_text("session_id\tage\nses-1\t30\nses-3\t33\n")
    visits = [("a", "1"), ("a", "2"), ("b", None)]
    scans = [Visit(who, visit, {"T1w": raw}, {}, "train") for who, visit in visits]
    measures = [{"brain_ml": 1100.0 + i, "ventricles_ml": None} for i in range(3)]
    write_tables(raw, out, scans, measures)
    assert (out / "participants.tsv").read_text() == (
        "participant_id\tsex\tbrain_ml\tventricles_ml\nsub-a\tF\tn/a\tn/a\nsub-b\tM\t1102.0\tn/a\n"
    )
    assert (out / "sub-a/sub-a_sessions.tsv").read_text() == (
        "session_id\tage\tbrain_ml\tventricles_ml\n"
        "ses-1\t30\t1100.0\tn/a\nses-2\tn/a\t1101.0\tn/a\n"
    )
    (raw / "participants.tsv").write_text(
        "participant_id\tbrain_ml\tventricles_ml\nsub-b\t1234\t20\n"
    )
    write_tables(raw, out, scans[2:], measures[2:])
    assert read_rows(out / "participants.tsv") == read_rows(raw / "participants.tsv")


def test_what_there_is_to_do_and_what_will_lack_is_told_first(again, caplog):
    caplog.set_level("INFO")
    again.model_copy(update={"jobs": 8}).execute()
    first, second = caplog.messages[:2]
    assert first == "2 scans of 2 people; 0 to prepare, 1 at a time"
    assert second.startswith("warning: no scan has sex, which the diffusion configs")


def test_the_bids_validator_finds_no_error(prepared):
    assert_valid_bids(prepared)
    assert not list(prepared.rglob(".*"))


def test_the_sidecar_says_what_was_done(prepared):
    said = json.loads(
        (prepared / name("01", "desc-brain_T1w")).with_suffix("").with_suffix(".json").read_text()
    )
    assert said["SkullStripped"] is True
    assert [s["Name"] for s in said["Steps"]][1] == "brain mask"
    assert said["Sources"] == ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"]
    assert (prepared / said["Transform"]).is_file()


def test_labels_land_where_they_belong(prepared):
    labels = Volume.read(prepared / name("01", "desc-spots_dseg"))
    for label, spot in enumerate(SPOTS, start=1):
        index = np.argwhere(labels.data == label).mean(0)
        assert (
            np.linalg.norm((labels.affine @ np.append(index, 1))[:3] - spot) < 2
        )  # mm; voxels of 4


def test_there_and_back_is_within_half_a_voxel(raw, prepared, tmp_path):
    for last in ("desc-brain_T1w", "desc-spots_dseg"):
        Restore(image=prepared / name("02", last), out=tmp_path / f"{last}.nii.gz").execute()
    first = nib.load(raw / "sub-02/anat/sub-02_T1w.nii.gz")
    back = nib.load(tmp_path / "desc-brain_T1w.nii.gz")
    assert back.shape == first.shape
    assert np.allclose(back.affine, first.affine, atol=1e-5)
    before = np.asarray(nib.load(raw / "sub-02/anat/sub-02_desc-spots_dseg.nii.gz").dataobj)
    after = np.asarray(nib.load(tmp_path / "desc-spots_dseg.nii.gz").dataobj)
    assert set(np.unique(after)) == {0, 1, 2, 3}
    ids = [1, 2, 3]
    middles = [np.array(ndimage.center_of_mass(x > 0, x, ids)) for x in (before, after)]
    assert np.abs(middles[0] - middles[1]).max() < 0.5  # voxels


def test_restore_explains_what_it_lacks(prepared, tmp_path):
    image = prepared / name("01", "desc-brain_T1w")
    stray = tmp_path / image.name.replace("sub-01", "sub-09")
    shutil.copy(image, stray)
    with pytest.raises(ConfigError, match="no transform of sub-09"):
        Restore(image=stray, out=tmp_path / "x.nii.gz").execute()
    with pytest.raises(ConfigError, match=r"ending in \.nii\.gz"):
        Restore(image=image, out=tmp_path / "x").execute()
    (tmp_path / "there.nii.gz").write_bytes(b"")
    with pytest.raises(ConfigError, match="is there already"):
        Restore(image=image, out=tmp_path / "there.nii.gz").execute()


def test_running_again_makes_only_what_is_missing(again, prepared):
    kept, lost = (prepared / name(p, "desc-brain_T1w") for p in ("01", "02"))
    before, wanted = kept.stat().st_mtime_ns, Volume.read(lost).data
    lost.unlink()
    again.execute()
    assert kept.stat().st_mtime_ns == before
    assert (Volume.read(lost).data == wanted).all()
    assert [r["scan"] for r in read_rows(prepared / "sourcedata/qc/qc.tsv")] == ["sub-01", "sub-02"]


def test_a_raw_scan_that_has_changed_is_prepared_again(raw, prepared, tmp_path):
    folder, out = tmp_path / "raw", tmp_path / "p"
    shutil.copytree(raw, folder)
    shutil.copytree(prepared, out)
    scan = folder / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    before = Volume.read(scan)
    Volume(before.data * 2, before.affine, before.space_code).write(scan)
    Prepare.parse({"bids_dir": folder, "out": out, **QUICK}).execute()
    one, two = (
        json.loads(
            (p / name("01", "desc-brain_T1w")).with_suffix("").with_suffix(".json").read_text()
        )
        for p in (prepared, out)
    )
    assert two["IntensityOne"] == pytest.approx(2 * one["IntensityOne"], rel=0.02)


def test_other_settings_and_other_folders_are_refused(again, prepared, tmp_path):
    with pytest.raises(ConfigError, match=r"other settings \(align\)"):
        again.model_copy(update={"align": "affine"}).execute()
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="holds something else"):
        again.model_copy(update={"out": tmp_path}).execute()
    with pytest.raises(ConfigError, match=r"a voxel size of 0\.5mm to 8mm is due"):
        Prepare.parse({"bids_dir": "x", "out": "y", "grid": "coarse"})


def test_one_bad_scan_does_not_stop_the_others(raw, tmp_path):
    folder = tmp_path / "raw"
    shutil.copytree(raw, folder)
    bad = folder / "sub-01/anat/sub-01_T1w.nii.gz"
    bad.write_bytes(bad.read_bytes()[:9000])
    settings = {"bids_dir": folder, "out": tmp_path / "p", **QUICK}
    with pytest.raises(RunError, match=r"1 of 2 scans failed.*sub-01 \(.*cannot be read") as error:
        Prepare.parse(settings).execute()
    assert error.value.exit_code == 1
    assert (tmp_path / "p" / name("02", "desc-brain_T1w")).is_file()
    assert not (tmp_path / "p" / name("01", "desc-brain_T1w")).exists()
    assert (tmp_path / "p/sourcedata/qc/qc_montage.png").is_file()
    assert [r["participant_id"] for r in read_rows(tmp_path / "p/participants.tsv")] == ["sub-02"]


def test_parts_prepare_what_one_process_prepares(raw, prepared, tmp_path, caplog):
    caplog.set_level("INFO")
    settings = {"bids_dir": raw, "out": tmp_path / "p", **QUICK}
    assert Prepare.parse({**settings, "shard": "2/2"}).execute() == [tmp_path / "p"]
    assert "shard 2/2 is done; 1 of 2 scans are still for other shards to make" in caplog.text
    assert not (tmp_path / "p/participants.tsv").exists()
    Prepare.parse({**settings, "shard": "1/2"}).execute()
    for file in ("participants.tsv", "sourcedata/qc/qc.tsv"):
        assert (tmp_path / "p" / file).read_text() == (prepared / file).read_text()
    for person in ("01", "02"):
        a, b = (Volume.read(d / name(person, "desc-brain_T1w")) for d in (prepared, tmp_path / "p"))
        assert (a.data == b.data).all()
    assert (tmp_path / "p/sourcedata/qc/qc_montage.png").is_file()


def test_the_last_part_writes_the_tables_though_one_of_its_scans_failed(raw, prepared, tmp_path):
    folder, out = tmp_path / "raw", tmp_path / "p"
    shutil.copytree(raw, folder)
    shutil.copytree(prepared, out)
    (out / "participants.tsv").unlink()
    bad = folder / "sub-01/anat/sub-01_T1w.nii.gz"
    bad.write_bytes(bad.read_bytes()[:9000])
    with pytest.raises(RunError, match="1 of 1 scans failed"):
        Prepare.parse({"bids_dir": folder, "out": out, **QUICK, "shard": "1/2"}).execute()
    assert [r["participant_id"] for r in read_rows(out / "participants.tsv")] == ["sub-02"]


@pytest.mark.slow
def test_side_by_side_is_the_same_as_one_by_one_and_each_is_followed(raw, prepared, tmp_path):
    scans, place = Bids(path=raw).scans(), Place(tmp_path / "p", raw, "T1w")
    told: dict[str, list[str]] = {"sub-01": [], "sub-02": []}
    steps = Steps(grid="4mm", bias=None)
    made = list(side_by_side(scans, place, steps, 2, lambda name, s: told[name].append(s)))
    assert sorted((s.subject, why) for s, why in made) == [("01", None), ("02", None)]
    for person in ("01", "02"):
        assert told[f"sub-{person}"] == list(STAGES)
        a, b = (Volume.read(d / name(person, "desc-brain_T1w")) for d in (prepared, tmp_path / "p"))
        assert (a.data == b.data).all()
