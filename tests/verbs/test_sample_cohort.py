"""The cohort as a dataset: valid BIDS, the same every time, and safe to stop and go on."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import assert_valid_bids
from vol3d.data.bids_writer import read_maker
from vol3d.data.datasets import Bids
from vol3d.data.images import Images
from vol3d.data.synthetic.raters import Rater, draw_rater
from vol3d.data.synthetic.subject import choose_labels
from vol3d.data.synthetic.template import load_template
from vol3d.data.synthetic.warp import block_mean, finer, warp
from vol3d.data.tables import read_rows
from vol3d.errors import ConfigError
from vol3d.transforms.field_file import read_field
from vol3d.verbs.sample_cohort import SampleCohort
from vol3d.volume import Volume


def digests(folder: Path, names: str = "*") -> dict[str, str]:
    files = sorted(p for p in folder.rglob(names) if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return SampleCohort(out=tmp_path_factory.mktemp("cohort") / "c", n=6).execute()


EXTRAS = {"contrasts": ["T2w", "FLAIR"], "missing": 0.3, "lesions": True, "raters": 2}


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """With all that can be asked for."""
    return SampleCohort(out=tmp_path_factory.mktemp("full") / "c", n=6, **EXTRAS).execute()


def test_it_is_a_dataset(cohort):
    entities = {"res": 4, "desc": "brain"}
    settings = {"path": cohort, "entities": entities, "labels_entities": {"desc": "tissue"}}
    source = Bids.parse({**settings, "volumes": {"counted_ml": [2, 3]}})
    scans = source.scans()
    assert [s.name for s in scans] == [f"sub-000{i}" for i in range(1, 7)]
    assert [s.split for s in scans] == ["train"] * 5 + ["val"]
    for s in scans:
        c = s.covariates
        assert 20 <= c["age"] <= 90
        assert c["sex"] in ("F", "M")
        assert c["counted_ml"] == pytest.approx(c["brain_ml"], rel=0.05)
    x = Images(source).image(scans[0])
    assert x.shape == (1, 40, 56, 40)


def test_the_bids_validator_finds_no_error(cohort):
    assert_valid_bids(cohort)


def test_nothing_is_left_half_written(cohort):
    assert not list(cohort.rglob(".*"))


def test_the_written_displacement_makes_the_written_labels(cohort):
    template = load_template(1.0)
    for scan in Bids.parse({"path": cohort, "labels_entities": {}}).scans():
        (path,) = (cohort / "sourcedata" / scan.name).iterdir()
        u, grid = read_field(path)
        labels = Volume.read(scan.label_map)
        assert grid.matches(labels.grid)
        moved = choose_labels(block_mean(warp(template.tissues, finer(u, 2), 2.0), 2))
        for label in (2, 3, 4):
            a, b = moved == label, labels.data == label
            assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.93


def test_a_person_depends_on_seed_and_number_only(cohort, tmp_path):
    SampleCohort(out=tmp_path / "c", n=2).execute()
    few, many = digests(tmp_path / "c", "*.nii.gz"), digests(cohort, "*.nii.gz")
    assert len(few) == 6
    assert few == {k: many[k] for k in few}


def test_stopped_and_gone_on_is_the_same(cohort, tmp_path):
    out = tmp_path / "c"
    SampleCohort(out=out, n=3).execute()
    (out / "sub-0002/anat/sub-0002_space-MNI152NLin2009aSym_res-4_desc-tissue_dseg.nii.gz").unlink()
    kept = out / "sub-0001/anat/sub-0001_space-MNI152NLin2009aSym_res-4_desc-brain_T1w.nii.gz"
    before = kept.stat().st_mtime_ns
    SampleCohort(out=out, n=6).execute()
    assert kept.stat().st_mtime_ns == before
    assert digests(out) == digests(cohort)


def test_doing_it_again_changes_nothing(cohort):
    before = digests(cohort)
    SampleCohort(out=cohort, n=6).execute()
    assert digests(cohort) == before


def test_it_keeps_away_from_other_folders(cohort, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="holds something that is no cohort"):
        SampleCohort(out=tmp_path, n=1).execute()
    with pytest.raises(ConfigError, match="other settings"):
        SampleCohort(out=cohort, n=6, seed=1).execute()
    with pytest.raises(ConfigError, match="holds 6 people, n=2 is fewer"):
        SampleCohort(out=cohort, n=2).execute()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_config_says_the_defaults():
    path = Path(__file__).parents[2] / "configs/cohort.yaml"
    assert SampleCohort.read(path, ["out=x"]) == SampleCohort(out=Path("x"))


def test_truth_in_the_table_is_that_of_the_images(cohort):
    rows = {s.name: s for s in Bids.parse({"path": cohort, "labels_entities": {}}).scans()}
    counted = [
        (Volume.read(s.label_map).data == 4).sum() * 0.064 for s in rows.values()
    ]  # 4 mm voxels of 0.064 ml
    told = [s.covariates["ventricles_ml"] for s in rows.values()]
    assert np.corrcoef(counted, told)[0, 1] > 0.99


def test_what_is_off_leaves_no_trace(cohort):
    assert not list(cohort.rglob("*T2w*")) + list(cohort.rglob("*FLAIR*"))
    assert not list(cohort.rglob("*_mask*")) + list(cohort.rglob("raters.tsv"))
    assert set(read_maker(cohort)["Settings"]) == {"spacing", "seed", "anatomy"}
    assert "lesion" not in (cohort / "README").read_text()


def test_people_are_those_of_earlier_versions(cohort):
    first = read_rows(cohort / "participants.tsv")[0]
    assert list(first) == ["participant_id", "age", "sex", "brain_ml", "ventricles_ml", "split"]
    assert (first["age"], first["sex"]) == ("76.38", "M")
    assert float(first["brain_ml"]) == pytest.approx(1270.42, rel=1e-4)
    assert float(first["ventricles_ml"]) == pytest.approx(40.59, rel=1e-3)


def test_the_bids_validator_finds_no_error_in_the_full_one(full):
    assert_valid_bids(full)


def test_more_images_leave_the_anatomy_as_it_is(cohort, full, tmp_path):
    few, many = digests(cohort, "*.nii.gz"), digests(full, "*.nii.gz")
    anatomy = {k for k in few if not k.endswith("T1w.nii.gz")}
    assert {k: few[k] for k in anatomy} == {k: many[k] for k in anatomy}
    assert all(few[k] != many[k] for k in set(few) - anatomy)  # lesions
    t2w = SampleCohort(out=tmp_path / "c", n=2, contrasts="T2w").execute()
    healthy = digests(t2w, "*.nii.gz")
    assert {k: healthy[k] for k in few if k in healthy} == {
        k: v for k, v in few.items() if "sub-0001" in k or "sub-0002" in k
    }


def test_contrasts_and_masks_are_read_as_any_dataset(full):
    labels = {"labels_entities": {"desc": "truth"}, "labels_suffix": "mask"}
    settings = {"path": full, "volumes": {"counted_ml": [1]}, **labels}
    scans = Bids.parse(settings).scans()
    for s in scans:
        assert abs(s.covariates["counted_ml"] - s.covariates["lesions_ml"]) < 0.064 / 2 + 0.006
    assert max(s.covariates["lesions_ml"] for s in scans) > 5
    flair = Bids.parse({"path": full, "contrasts": "FLAIR"}).scans()
    assert 0 < len(flair) < 6
    t1w = {s.name: Volume.read(s.image).grid for s in scans}
    assert all(Volume.read(s.image).grid.matches(t1w[s.name]) for s in flair)


def test_how_raters_err_stands_in_a_table(full):
    rows = read_rows(full / "sourcedata/raters.tsv")
    assert [row["rater"] for row in rows] == ["rater1", "rater2"]
    told = [Rater(float(row["bias_mm"]), float(row["error_mm"])) for row in rows]
    assert told == [draw_rater(0, 1), draw_rater(0, 2)]
    assert told[0].bias_mm > told[1].bias_mm
    sums = [
        sum(int(Volume.read(p).data.sum()) for p in full.rglob(f"*desc-{row['rater']}_mask.nii.gz"))
        for row in rows
    ]
    assert sums[0] > sums[1] > 0


def test_so_many_lack_a_contrast(tmp_path):
    cohort = SampleCohort(out=tmp_path, n=1, contrasts=["T2w", "FLAIR"], missing=0.25)
    there = [cohort.present(i) for i in range(2000)]
    shares = [np.mean([c not in some for some in there]) for c in ("T2w", "FLAIR")]
    assert shares == [pytest.approx(0.25, abs=0.03)] * 2
    both = np.mean([not some for some in there])  # drawn apart
    assert both == pytest.approx(0.25**2, abs=0.02)
    alone = SampleCohort(out=tmp_path, n=1, contrasts="FLAIR", missing=0.25)
    assert [alone.present(i) for i in range(50)] == [
        [c for c in s if c == "FLAIR"] for s in there[:50]
    ]


def test_a_full_one_stopped_and_gone_on_is_the_same(full, tmp_path):
    out = tmp_path / "c"
    SampleCohort(out=out, n=3, **EXTRAS).execute()
    lost = sorted(out.rglob("sub-0002*_mask.nii.gz"))[0]
    lost.unlink()
    SampleCohort(out=out, n=6, **EXTRAS).execute()
    assert digests(out) == digests(full)
    with pytest.raises(ConfigError, match="other settings"):
        SampleCohort(out=out, n=6).execute()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"missing": 0.5}, "missing: only further contrasts can be"),
        ({"raters": 2}, "raters: there is nothing to outline; add lesions=true"),
        ({"contrasts": ["T2w", "T2w"]}, "contrasts: each stands there once"),
        ({"contrasts": ["T1w"]}, "unknown value 'T1w'"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        SampleCohort.parse({"out": tmp_path, **settings})
