"""A cohort depends on its seeds and covariates alone; what is written is BIDS and lies in place."""

import json
import os
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from tests.conftest import assert_valid_bids, verb, vol3d
from vol3d.data.tables import read_rows
from vol3d.data.visit import kind_of
from vol3d.errors import ConfigError, DataError
from vol3d.trained import TrainedGenerator, TrainedSegmenter
from vol3d.verbs.generate import Generate
from vol3d.volume import Volume


def images(cohort: Path) -> dict[str, np.ndarray]:
    return {
        p.name.split("_")[0]: Volume.read(p).data
        for p in sorted(cohort.glob("sub-*/anat/*T1w.nii.gz"))
    }


@pytest.fixture(scope="module")
def made(diffusion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort") / "made"
    return verb(
        "generate", str(diffusion), str(out), "n=5", "age=60", "micro_batch=2", "device=cpu"
    )


def test_every_brain_has_its_sidecar_and_its_row(made: Path):
    rows = read_rows(made / "participants.tsv")
    assert [r["seed"] for r in rows] == ["0", "1", "2", "3", "4"]
    assert {r["age"] for r in rows} == {"60.0000"}
    assert all(r["sex"] in "FM" for r in rows)  # drawn given the age
    sidecars = sorted(made.glob("sub-*/anat/*T1w.json"))
    assert len(sidecars) == len(images(made)) == 5
    said = json.loads(sidecars[3].read_text())
    assert said["Seed"] == 3
    assert said["Asked"] == {"age": 60.0}
    assert said["Covariates"]["age"] == 60.0
    assert said["Sampler"]["solver"]["kind"] == "heun"
    assert len(said["Model"]) == 64
    assert said["Guidance"] == {"age": 1.0, "sex": 1.0, "brain_ml": 1.0, "ventricles_ml": 1.0}


def test_outside_the_brain_an_image_is_zero(made: Path):
    for name, x in images(made).items():
        mask = Volume.read(next((made / name / "anat").glob("*_desc-brain_mask.nii.gz")))
        assert (x[~mask.data.astype(bool)] == 0).all()
        assert mask.data.any()


def test_volumes_are_measured_into_the_table(
    made: Path, diffusion: Path, segmenter: Path, tmp_path
):
    out = shutil.copytree(made, tmp_path / "measured")
    words = ["generate", str(diffusion), str(out), "age=60", "micro_batch=2", "device=cpu"]
    verb(*words, "n=5", f"segmenter={segmenter}")
    told = json.loads(next(out.glob("sub-000003/anat/*T1w.json")).read_text())["Measured"][
        "Volumes"
    ]
    verb(*words, "n=1", "seed=7")  # more brains, which nobody measures
    rows = {r["seed"]: r for r in read_rows(out / "participants.tsv")}
    assert rows["3"]["measured_brain_ml"] == f"{told['brain_ml']:.4f}"
    assert rows["7"]["measured_brain_ml"] == "n/a"
    column = json.loads((out / "participants.json").read_text())["measured_brain_ml"]
    assert column["Units"] == "mL"
    image = torch.from_numpy(images(out)["sub-000003"]).float()[None, None]
    assert TrainedSegmenter(segmenter).measure(image, 4**3 / 1000)[0] == pytest.approx(
        told, abs=1e-4
    )
    assert_valid_bids(out)


def test_a_dry_run_makes_nothing(diffusion: Path, segmenter: Path, tmp_path: Path):
    Generate(bundle=diffusion, out=tmp_path / "dry", segmenter=segmenter, device="cpu").foresee()
    assert not list(tmp_path.iterdir())


def test_samples_lie_where_the_training_scans_lie(made: Path, cohort: Path):
    scan = Volume.read(next(cohort.glob("sub-*/anat/*T1w.nii.gz")))
    sample = Volume.read(next(made.glob("sub-*/anat/*T1w.nii.gz")))
    assert sample.grid.matches(scan.grid)
    assert sample.space_code == scan.space_code == 4


def test_the_validator_finds_no_error(made: Path):
    assert_valid_bids(made)


def test_a_picture_shows_what_was_made(made: Path):
    shown = plt.imread(made / "sourcedata" / "contact_sheet.png")[..., :3]
    assert shown.shape[1] > 1000
    assert 0.01 < (shown.mean(2) > 0.3).mean() < 0.9  # brains on black


def test_the_same_micro_batch_gives_the_same_voxels(diffusion: Path, made: Path, tmp_path: Path):
    again = verb(
        "generate",
        str(diffusion),
        str(tmp_path / "a"),
        "n=2",
        "seed=1",
        "age=60",
        "micro_batch=2",
        "device=cpu",
    )
    a, b = images(made), images(again)
    assert set(b) == {"sub-000001", "sub-000002"}
    assert all(np.array_equal(a[k], b[k]) for k in b)


def test_another_micro_batch_gives_nearly_the_same(diffusion: Path, made: Path, tmp_path: Path):
    again = verb(
        "generate",
        str(diffusion),
        str(tmp_path / "a"),
        "n=5",
        "age=60",
        "micro_batch=3",
        "device=cpu",
    )
    a, b = images(made), images(again)
    assert max(np.abs(a[k] - b[k]).max() for k in a) <= 1e-3


def test_another_number_of_threads_gives_nearly_the_same(
    diffusion: Path, made: Path, tmp_path: Path
):
    words = [diffusion, tmp_path / "a", "n=5", "age=60", "micro_batch=2", "device=cpu"]
    other = 1 if torch.get_num_threads() > 1 else 2
    done = vol3d("generate", *words, env={**os.environ, "OMP_NUM_THREADS": str(other)})
    assert done.returncode == 0, done.stderr
    a, b = images(made), images(tmp_path / "a")
    assert max(np.abs(a[k] - b[k]).max() for k in a) <= 1e-3


def test_seeds_and_covariates_matter(made: Path, diffusion: Path, tmp_path: Path):
    a = images(made)
    assert not np.array_equal(a["sub-000000"], a["sub-000001"])
    other = verb(
        "generate", str(diffusion), str(tmp_path / "o"), "age=25", "micro_batch=2", "device=cpu"
    )
    assert not np.array_equal(a["sub-000000"], images(other)["sub-000000"])


def test_only_what_is_missing_is_made(diffusion: Path, made: Path, tmp_path: Path):
    shard = tmp_path / "shard"
    shutil.copytree(made, shard)
    lost = next(shard.glob("sub-000003/anat/*T1w.json"))
    lost.unlink()
    kept = next(shard.glob("sub-000001/anat/*T1w.nii.gz"))
    before = kept.stat().st_mtime_ns
    verb("generate", str(diffusion), str(shard), "n=5", "age=60", "micro_batch=2", "device=cpu")
    assert kept.stat().st_mtime_ns == before
    a, b = images(made), images(shard)
    assert all(np.array_equal(a[k], b[k]) for k in a)


def test_parts_make_what_one_process_makes(diffusion: Path, made: Path, tmp_path: Path, caplog):
    caplog.set_level("INFO")
    words = [str(diffusion), str(tmp_path / "p"), "n=5", "age=60", "micro_batch=2", "device=cpu"]
    done: set[str] = set()
    for shard, wanted in (("2/2", {"sub-000002", "sub-000003"}), ("1/2", None)):
        verb("generate", *words, f"shard={shard}")
        fresh = set(images(tmp_path / "p")) - done
        assert fresh == (wanted or set(images(made)) - done)  # a batch of two, then those left
        done |= fresh
        rows = read_rows(tmp_path / "p" / "participants.tsv")
        assert rows == read_rows(made / "participants.tsv")  # that of the whole cohort, always
    a, b = images(made), images(tmp_path / "p")
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert "shard 2/2 is done; 3 of 5 brains are still for other shards to make" in caplog.text
    assert "shard 1/2 is done" not in caplog.text


def test_a_part_is_finished_by_any_rerun(diffusion: Path, made: Path, tmp_path: Path):
    out = tmp_path / "p"
    words = [str(diffusion), str(out), "n=5", "age=60", "micro_batch=2", "device=cpu"]
    shutil.copytree(made, out)
    lost = [next(out.glob(f"sub-00000{seed}/anat/*T1w.json")) for seed in (1, 2)]
    for sidecar in lost:
        sidecar.unlink()
    verb("generate", *words, "shard=2/2")
    assert [sidecar.is_file() for sidecar in lost] == [False, True]
    verb("generate", *words)
    a, b = images(made), images(out)
    assert lost[0].is_file()
    assert all(np.array_equal(a[k], b[k]) for k in a)


def test_more_parts_than_batches(diffusion: Path, tmp_path: Path):
    words = [str(diffusion), str(tmp_path / "p"), "n=2", "micro_batch=2", "device=cpu"]
    verb("generate", *words, "shard=3/3")
    assert images(tmp_path / "p") == {}
    verb("generate", *words, "shard=1/3")
    assert len(images(tmp_path / "p")) == 2


def test_a_row_that_another_cohort_took_out_is_put_back(diffusion: Path, tmp_path: Path):
    words = [str(diffusion), str(tmp_path / "p"), "micro_batch=2", "device=cpu"]
    out = verb("generate", *words, "n=1")
    table = out / "participants.tsv"
    mine = table.read_text()
    verb("generate", *words, "n=1", "seed=7")
    both = table.read_text()
    table.write_text(mine)  # as if the first had read before the second wrote
    verb("generate", *words, "n=1", "seed=7")
    assert table.read_text() == both
    assert len(read_rows(table)) == 2


def test_a_table_of_covariates(diffusion: Path, tmp_path: Path, caplog):
    table = tmp_path / "t.tsv"
    table.write_text(
        "participant_id\tage\tsex\tseed\tsite\nsub-a\t30\tF\t11\tx\nsub-b\tn/a\tM\t12\ty\n"
    )
    out = verb("generate", str(diffusion), str(tmp_path / "o"), f"covariates={table}", "device=cpu")
    assert "left aside, as the model knows nothing of it: site" in caplog.text
    rows = read_rows(out / "participants.tsv")
    assert [(r["seed"], r["sex"]) for r in rows] == [("11", "F"), ("12", "M")]
    assert rows[0]["age"] == "30.0000"


def test_outside_the_range_is_told_and_noted(diffusion: Path, tmp_path: Path):
    result = vol3d("generate", diffusion, tmp_path / "o", "age=99", "device=cpu")
    assert result.returncode == 0
    assert "warning: age=99 lies outside the range seen in training" in result.stderr
    said = json.loads(next((tmp_path / "o").glob("sub-*/anat/*T1w.json")).read_text())
    assert "age=99" in said["Warnings"][0]


# -- bad input: one line, the right code, nothing written -------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["agee=60"], "unknown setting or covariate 'agee'. Did you mean 'age'?"),
        (["sampler.stpes=4"], "unknown key 'stpes'. Did you mean 'steps'?"),
        (["sex=female"], "sex='female': unknown level. Known: F, M."),
        (["age=old"], "age='old': a number in years is due"),
        (["n=0"], "n: Input should be greater than 0, got 0"),
        (["covariates=none.tsv"], "none.tsv: no such table"),
        (["shard=5/4"], "shard: '5/4' is no shard; the second of four is 2/4, and 4/4 the last"),
    ],
)
def test_bad_requests(diffusion: Path, tmp_path: Path, words: list[str], line: str):
    with pytest.raises(ConfigError) as caught:
        verb("generate", str(diffusion), str(tmp_path / "o"), *words, "device=cpu")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "o").exists()


def test_a_folder_that_holds_something_else(diffusion: Path, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something that is no cohort of ours"):
        verb("generate", str(diffusion), str(tmp_path), "device=cpu")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_cohort_of_other_covariates(diffusion: Path, made: Path):
    with pytest.raises(ConfigError, match="is there already, with other covariates"):
        verb("generate", str(diffusion), str(made), "n=5", "age=61", "micro_batch=2", "device=cpu")
    assert {r["age"] for r in read_rows(made / "participants.tsv")} == {"60.0000"}


def test_a_bundle_whose_checksum_is_off(diffusion: Path, tmp_path: Path):
    copy = tmp_path / "bundle"
    shutil.copytree(diffusion / "bundle", copy)
    file = copy / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"model\.safetensors is damaged or was changed"):
        verb("generate", str(copy), str(tmp_path / "o"), "device=cpu")


def test_no_bundle(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such folder"):
        verb("generate", str(tmp_path / "none"), str(tmp_path / "o"))
    with pytest.raises(ConfigError, match="holds no bundle"):
        verb("generate", str(tmp_path), str(tmp_path / "o"))


def test_another_way_down_than_the_one_of_training(diffusion: Path, tmp_path: Path):
    words = ["generate", str(diffusion)]
    changes = ["sampler.schedule=edm", "sampler.solver=dpmpp_2m", "sampler.steps=3"]
    made = verb(*words, str(tmp_path / "a"), *changes, "device=cpu")
    sidecar = json.loads(next(made.glob("sub-*/anat/*T1w.json")).read_text())
    assert sidecar["Sampler"]["schedule"]["kind"] == "edm"
    other = verb(*words, str(tmp_path / "b"), *changes[1:], "device=cpu")
    (a,), (b,) = images(made).values(), images(other).values()
    assert np.abs(a - b).max() > 0
    with pytest.raises(ConfigError, match="solver 'pndm' does not go with schedule 'flow'"):
        verb(*words, str(tmp_path / "c"), "sampler.solver=pndm", "device=cpu")


def test_samples_are_named_as_what_was_learnt_from(diffusion: Path, tmp_path: Path):
    model, asked = TrainedGenerator(diffusion), Generate(bundle=diffusion, out=tmp_path)
    for told, kind in (("T1w", "T1w"), ("FLAIR", "FLAIR"), ("../x", "T1w"), (None, "T1w")):
        model.fingerprint["kind"] = told
        assert asked.path(model, 3).name.endswith(f"_desc-synth_{kind}.nii.gz")
    assert kind_of([Path("sub-1_T2w.nii.gz"), Path("sub-2_desc-brain_T2w.nii")]) == "T2w"
    assert kind_of([Path("sub-1_T2w.nii.gz"), Path("b.nii.gz")]) == "T1w"
