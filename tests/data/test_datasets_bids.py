"""BIDS folders: what is found, who is in which split, and what is said when it is not right."""

from pathlib import Path

import numpy as np
import pytest

from vol3d.data.datasets import Bids
from vol3d.data.images import Images
from vol3d.errors import ConfigError, DataError
from vol3d.volume import Volume


def put(path: Path, data: np.ndarray | None = None, spacing=(1, 1, 1)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.ones((3, 4, 5), np.uint8) if data is None else data
    Volume(data, np.diag([*spacing, 1.0])).write(path)
    return path


def brain(root: Path, name: str, words: str = "T1w") -> Path:
    data = np.arange(1, 61, dtype=np.uint8).reshape(3, 4, 5)
    return put(root.joinpath(*name.split("_")) / "anat" / f"{name}_{words}.nii.gz", data)


def told(source: Bids) -> list[str]:
    return source.doubts(source.scans())


@pytest.fixture
def plain(tmp_path):
    for subject in ("01", "02", "03"):
        brain(tmp_path, f"sub-{subject}")
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\tsex\tsplit\nsub-02\t70.5\tF\tval\n01\tn/a\tM\ttrain\n"
    )
    return tmp_path


@pytest.fixture
def visits(tmp_path):
    for name in ("sub-b_ses-2", "sub-a_ses-1", "sub-a_ses-2", "sub-b_ses-1", "sub-c_ses-1"):
        brain(tmp_path, name)
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\tsex\nsub-a\t60\tF\nsub-b\t70\tM\nsub-c\t80\tM\n"
    )
    (tmp_path / "sub-a" / "sub-a_sessions.tsv").write_text(
        "session_id\tage\tscore\nses-2\t62.5\t9\nses-1\tn/a\t8\n"
    )
    return tmp_path


def test_scans_without_sessions(plain):
    one, two, three = Bids(path=plain).scans()
    assert (one.name, one.session, one.split, one.label_map) == ("sub-01", None, "train", None)
    assert one.covariates == {"age": None, "sex": "M"}
    assert two.covariates == {"age": 70.5, "sex": "F"}
    assert two.split == "val"
    assert three.covariates == {"age": None, "sex": None}  # no row in the table
    assert two.image == plain / "sub-02/anat/sub-02_T1w.nii.gz"


def test_no_table_is_fine_and_told(tmp_path):
    brain(tmp_path, "sub-01")
    assert Bids(path=tmp_path).scans()[0].covariates == {}
    assert "has no participants.tsv" in told(Bids(path=tmp_path))[0]
    (tmp_path / "participants.csv").write_text("participant_id,age\nsub-01,30\n")
    assert Bids(path=tmp_path).scans()[0].covariates == {"age": 30.0}
    assert told(Bids(path=tmp_path)) == []


def test_sessions_override_the_participants_table(visits):
    scans = {s.name: s for s in Bids(path=visits).scans()}
    assert list(scans) == [
        "sub-a_ses-1", "sub-a_ses-2", "sub-b_ses-1", "sub-b_ses-2", "sub-c_ses-1"
    ]  # fmt: skip
    assert scans["sub-a_ses-2"].covariates == {"score": 9.0, "age": 62.5, "sex": "F"}
    assert scans["sub-a_ses-1"].covariates == {"score": 8.0, "age": None, "sex": "F"}
    assert scans["sub-b_ses-1"].covariates == {"score": None, "age": 70.0, "sex": "M"}


def test_a_person_is_in_one_split_whatever_the_session(tmp_path):
    for i in range(40):
        for visit in ("1", "2"):
            brain(tmp_path, f"sub-{i:02d}_ses-{visit}")
    scans = Bids(path=tmp_path, val_fraction=0.4).scans()
    people = {}
    for s in scans:
        people.setdefault(s.subject, set()).add(s.split)
    assert len(scans) == 80
    assert all(len(splits) == 1 for splits in people.values())
    assert {"val"} in people.values()
    assert {"train"} in people.values()
    other = Bids(path=tmp_path, val_fraction=0.4, split_seed=1).scans()
    assert [s.split for s in scans] != [s.split for s in other]


def test_a_person_keeps_the_split_when_others_leave(tmp_path):
    for i in range(20):
        brain(tmp_path, f"sub-{i:02d}")
    all_of_them = {s.name: s.split for s in Bids(path=tmp_path, val_fraction=0.5).scans()}
    some = Bids(path=tmp_path, val_fraction=0.5, exclude=["sub-00", "07"], subjects=None).scans()
    assert len(some) == 18
    assert all(all_of_them[s.name] == s.split for s in some)


def test_entities_choose_among_files(plain):
    for words in ("space-MNI_res-2_desc-brain_T1w", "space-MNI_res-1_desc-brain_T1w"):
        brain(plain, "sub-01", words)
    with pytest.raises(DataError, match=r"3 files match.*sub-01_T1w.nii.gz.*choose with entities"):
        Bids(path=plain).scans()
    found = Bids.parse({"path": str(plain), "entities": {"space": "MNI", "res": 2}}).scans()
    assert [s.image.name for s in found] == ["sub-01_space-MNI_res-2_desc-brain_T1w.nii.gz"]
    bare = Bids.parse({"path": str(plain), "entities": {"space": None}}).scans()
    assert bare[0].image.name == "sub-01_T1w.nii.gz"


def test_label_maps_and_volumes_measured_in_them(plain):
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[:2, 0, 0], labels[2, 0, :3] = 4, 7
    where = plain / "sub-01/anat/sub-01_desc-x_dseg.nii.gz"
    put(where, labels, spacing=(1, 2, 5))  # 0.01 ml a voxel
    source = Bids(path=plain, labels_entities={"desc": "x"}, volumes={"v": [4, 7], "age": [4]})
    one, two, _ = source.scans()
    assert one.label_map == where
    assert one.covariates == {"age": pytest.approx(0.02), "sex": "M", "v": pytest.approx(0.05)}
    assert two.label_map is None
    assert two.covariates["v"] is None


def test_external_table(plain, tmp_path):
    table = tmp_path / "aseg.tsv"
    table.write_text("Measure:volume\tL\tR\tX\nsub-01\t1000\t500\t1\nsub-09\t1\t1\t1\n")
    source = Bids.parse(
        {"path": plain, "tables": [{"path": table, "columns": {"lv_ml": ["L", "R"]}}]}
    )
    one, two, _ = source.scans()
    assert one.covariates["lv_ml"] == 1.5
    assert two.covariates["lv_ml"] is None


def test_external_table_of_other_people(plain, tmp_path):
    table = tmp_path / "aseg.tsv"
    table.write_text("Measure:volume\tL\nbert\t1000\n")
    source = Bids.parse({"path": plain, "tables": [{"path": table, "columns": {"v": ["L"]}}]})
    with pytest.raises(DataError, match=r"has none of the 3 scans.*'bert'.*'sub-01'"):
        source.scans()


def test_external_table_by_session(visits, tmp_path):
    table = tmp_path / "synthseg.csv"
    table.write_text("subject,V\nsub-a_ses-1_T1w,1000\nsub-a_ses-2_T1w,2000\nsub-b,3000\n")
    source = Bids.parse({"path": visits, "tables": [{"path": table, "columns": {"v": ["V"]}}]})
    values = {s.name: s.covariates["v"] for s in source.scans()}
    assert values == {"sub-a_ses-1": 1, "sub-a_ses-2": 2, "sub-b_ses-1": 3, "sub-b_ses-2": 3,
                      "sub-c_ses-1": None}  # fmt: skip


def test_only_some_people(plain):
    assert [s.name for s in Bids(path=plain, subjects=["sub-01", "03"]).scans()] == [
        "sub-01", "sub-03"
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"exclude: there is no subject '1'.*Did you mean '01'"):
        Bids(path=plain, exclude=["1"]).scans()
    with pytest.raises(DataError, match="no scan is left"):
        Bids(path=plain, subjects=["01"], exclude=["01"]).scans()


def test_grid(plain):
    assert Bids(path=plain).target_grids() == {}
    assert Bids(path=plain, grid="2mm").target_grids()["2mm"].shape == (80, 112, 80)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "nowhere"}, "nowhere: no such folder"),
        ({"path": "empty"}, "no sub-\\* folder, so it is no BIDS dataset"),
        (
            {"path": "data", "contrasts": "T2w"},
            r"no image \*_T2w.nii.gz.*It has: \*_T1w.*contrasts=T1w",
        ),
        ({"path": "data", "labels_entities": {"desc": "x"}}, r"no label map \*_dseg.*desc: x"),
    ],
)
def test_misuse_is_one_line(tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    brain(Path("data"), "sub-01")
    with pytest.raises(ConfigError, match=message) as error:
        Bids.parse(settings).scans()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("participant_id\tage\n", "holds no rows"),
        ("id\tage\nsub-01\t3\n", "has no column 'participant_id'"),
        ("participant_id\tage\nsub-01\t3\n01\t4\n", "two rows are of '01'"),
        ("participant_id\tage\tage\nsub-01\t3\t4\n", "column 'age' is there twice"),
        ("participant_id\tage\nsub-01\t3\t4\n", r"row 2 \('sub-01'\) has 3 columns, the header"),
        ("participant_id\tsplit\nsub-01\tdev\n", "sub-01: split is 'dev', train or val is due"),
    ],
)
def test_bad_participants_table(tmp_path, table, message):
    brain(tmp_path, "sub-01")
    (tmp_path / "participants.tsv").write_text(table)
    with pytest.raises(DataError, match=message):
        Bids(path=tmp_path).scans()


def test_split_per_visit_is_refused(visits):
    (visits / "sub-a/sub-a_sessions.tsv").write_text("session_id\tsplit\nses-1\tval\n")
    with pytest.raises(DataError, match="people are split, not visits"):
        Bids(path=visits).scans()


def test_volumes_need_label_maps(plain):
    with pytest.raises(ConfigError, match="say which with labels_entities"):
        Bids.parse({"path": str(plain), "volumes": {"v": [4]}})


def test_volumes_of_labels_that_nobody_has(plain):
    put(plain / "sub-01/anat/sub-01_dseg.nii.gz")
    with pytest.raises(DataError, match=r"volumes.v: no label map has any of the labels \[44\]"):
        Bids(path=plain, labels_entities={}, volumes={"v": [44]}).scans()


def test_truncated_label_map(plain):
    path = put(plain / "sub-01/anat/sub-01_dseg.nii.gz")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="cannot be read"):
        Bids(path=plain, labels_entities={}, volumes={"v": [1]}).scans()


def test_settings_round_trip(plain):
    source = Bids.parse({"path": str(plain), "entities": {"res": 2, "desc": None}})
    assert Bids.parse(source.dump()) == source


# -- who is left out, and whose rows are of nobody ---------------------------------------------------


def test_rows_and_scans_that_do_not_meet_are_told(plain):
    table = plain / "participants.tsv"
    table.write_text("participant_id\tage\nsub-01\t30\nsub-2\t40\n")
    assert told(Bids(path=plain)) == [
        f"{table}: 1 of 2 rows are of no scan: sub-2 (is sub-2 sub-02?)",
        f"{table}: has no row for 2 of 3 scans: sub-02, sub-03",
    ]
    table.write_text("participant_id\tage\nsub-1\t30\nsub-2\t40\n")
    with pytest.raises(
        DataError, match=r"2 of 2 rows are of no scan: sub-1, sub-2 \(is sub-1 sub-01"
    ):
        Bids(path=plain).scans()


def test_rows_of_other_tables_are_told(visits, tmp_path):
    table = tmp_path / "synthseg.csv"
    table.write_text("subject,V\nsub-a,1\nsub-z_ses-1,2\n")
    source = Bids.parse({"path": visits, "tables": {"path": table, "columns": {"v_ml": "V"}}})
    assert told(source) == [
        f"{table}: 1 of 2 rows are of no scan: sub-z_ses-1",
        f"{table}: has no row for 3 of 5 scans: sub-b_ses-1, sub-b_ses-2, sub-c_ses-1",
    ]
    (visits / "sub-a/sub-a_sessions.tsv").write_text("session_id\tage\nses-9\t60\n")
    assert "sub-a_sessions.tsv: no scan is of sub-a_ses-9" in told(Bids(path=visits))


def test_runs(plain):
    for run in ("1", "2", "10"):
        brain(plain, "sub-01", f"acq-x_run-{run}_T1w")
    (plain / "sub-01/anat/sub-01_T1w.nii.gz").unlink()
    with pytest.raises(DataError, match=r"run: 1}, which leaves out whoever.*first_run=true takes"):
        Bids(path=plain).scans()
    first = Bids(path=plain, first_run=True)
    assert first.scans()[0].image.name == "sub-01_acq-x_run-1_T1w.nii.gz"
    assert len(first.scans()) == 3
    (only,) = (one := Bids(path=plain, entities={"run": "01"})).scans()
    assert only.image == first.scans()[0].image
    assert "entities={run: 01}: 1 of 3 scans, of 1 of 3 people; left out: sub-02, sub-03" in told(
        one
    )


@pytest.mark.parametrize(("column", "prefix"), [("session", "ses-"), ("session_id", "")])
def test_a_row_for_each_visit(visits, column, prefix):
    (visits / "sub-a/sub-a_sessions.tsv").unlink()
    rows = [f"sub-a\t{prefix}1\t60\ttrain", f"sub-a\t{prefix}2\t62\ttrain", "sub-b\tn/a\t70\tval"]
    table = visits / "participants.tsv"
    table.write_text("\n".join([f"participant_id\t{column}\tage\tsplit", *rows]) + "\n")
    scans = {s.name: (s.covariates["age"], s.split) for s in Bids(path=visits).scans()}
    assert scans["sub-a_ses-1"] == (60.0, "train")
    assert scans["sub-a_ses-2"] == (62.0, "train")
    assert scans["sub-b_ses-1"] == scans["sub-b_ses-2"] == (70.0, "val")
    table.write_text(table.read_text().replace("62\ttrain", "62\tval"))
    with pytest.raises(DataError, match="'sub-a' is in both train and val"):
        Bids(path=visits).scans()


def test_names_of_people_are_text(plain):
    for words in (["subjects=[01]"], ["subjects=01"], ["exclude=[02, 03]"], ["subjects=sub-01"]):
        source = Bids.read(None, [f"path={plain}", *words])
        assert [s.name for s in source.scans()] == ["sub-01"], words
    (plain / "data.yaml").write_text(f"path: {plain}\nsubjects: [01, '03']  # and 02 is not\n")
    assert [s.subject for s in Bids.read(plain / "data.yaml").scans()] == ["01", "03"]


def test_levels_by_other_names(plain):
    levels = {"sex": {"female": "F", "male": ["M", "m"]}}
    assert [s.covariates["sex"] for s in Bids(path=plain, levels=levels).scans()] == [
        "male", "female", None
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"levels.Sex: no scan has.*Did you mean 'sex'"):
        Bids(path=plain, levels={"Sex": {"M": ["m"]}}).scans()


# -- fMRIPrep and sMRIPrep: native and MNI files, masks beside them ----------------------------------


@pytest.fixture
def fmriprep(tmp_path):
    for space in ("", "space-MNI152NLin2009cAsym_res-2_", "space-MNI152NLin6Asym_"):
        brain(tmp_path, "sub-01", f"{space}desc-preproc_T1w")
        mask = np.zeros((3, 4, 5), np.uint8)
        mask[1 + ("2009" in space)] = 1
        put(tmp_path / f"sub-01/anat/sub-01_{space}desc-brain_mask.nii.gz", mask)
        brain(tmp_path, "sub-01", f"{space}dseg")
    return tmp_path


def test_the_hint_points_at_mni_space(fmriprep):
    hint = r"entities={space: MNI152NLin2009cAsym, res: 2}$"
    with pytest.raises(DataError, match=hint):
        Bids(path=fmriprep).scans()


def test_masks_and_labels_inherit_space_and_res(fmriprep):
    words = {"entities": {"space": "MNI152NLin2009cAsym"}, "labels_entities": {}, "val_fraction": 0}
    (scan,) = (source := Bids(path=fmriprep, **words)).scans()
    anat = fmriprep / "sub-01/anat"
    assert scan.mask == anat / "sub-01_space-MNI152NLin2009cAsym_res-2_desc-brain_mask.nii.gz"
    assert scan.label_map == anat / "sub-01_space-MNI152NLin2009cAsym_res-2_dseg.nii.gz"
    (native,) = Bids(path=fmriprep, entities={"space": None}).scans()
    assert native.mask == anat / "sub-01_desc-brain_mask.nii.gz"
    assert Bids(path=fmriprep, mask_entities=None, **words).scans()[0].mask is None

    seen = Images(source).image(scan)[0]
    assert seen[2].all()
    assert not seen[:2].any()
    digest = Images(source).digest(scan)
    put(scan.mask, np.ones((3, 4, 5), np.uint8))
    assert Images(source).digest(scan) != digest  # latents of another mask are others
    put(scan.mask, np.ones((3, 4, 4), np.uint8))
    with pytest.raises(
        DataError, match=r"desc-brain_mask.*lies on a grid of 3x4x4.*mask_entities=null"
    ):
        Images(source).read(scan)


def test_a_scan_that_is_stripped_by_its_name_needs_no_mask(tmp_path):
    brain(tmp_path, "sub-01", "desc-brain_T1w")
    put(tmp_path / "sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    assert Bids(path=tmp_path).scans()[0].mask is None


@pytest.mark.parametrize(("folder", "what"), [("sub-a_b", "subject"), ("sub-c/ses-1_x", "session")])
def test_a_folder_that_names_nobody(plain, folder, what):
    name = folder.replace("/", "_")
    put(plain / folder / "anat" / f"{name}_T1w.nii.gz")
    line = (
        rf"{name}_T1w.nii.gz: {Path(folder).name} is the name of no BIDS {what}, letters .* rename"
    )
    with pytest.raises(DataError, match=line):
        Bids(path=plain).scans()
