"""The cohort as a dataset: valid BIDS, the same every time, and safe to stop and go on."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import assert_valid_bids
from vol3d.data.datasets import Bids
from vol3d.data.displacement import read_displacement
from vol3d.data.images import Images
from vol3d.data.synthetic.subject import choose_labels
from vol3d.data.synthetic.template import load_template
from vol3d.data.synthetic.warp import block_mean, finer, warp
from vol3d.errors import ConfigError
from vol3d.verbs.sample_cohort import SampleCohort
from vol3d.volume import Volume


def digests(folder: Path, names: str = "*") -> dict[str, str]:
    files = sorted(p for p in folder.rglob(names) if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return SampleCohort(out=tmp_path_factory.mktemp("cohort") / "c", n=6).execute()


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
        u, grid = read_displacement(path)
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
