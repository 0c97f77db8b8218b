"""The whole chain on 20 tiny balls with a hole: train, encode, generate, evaluate."""

import json
import re

import numpy as np
import pytest

from vol3d.data.bids_writer import anat_path, write_tsv
from vol3d.data.rng import numpy_rng
from vol3d.errors import ConfigError, DataError
from vol3d.verbs._evaluation import spread
from vol3d.verbs.encode import Encode
from vol3d.verbs.evaluate import Evaluate
from vol3d.verbs.train import Train
from vol3d.volume import Volume

AFFINE = np.diag([8.0, 8.0, 8.0, 1.0])
SHAPE = (16, 20, 16)
QUICK = {"batch": 4, "device": "cpu", "precision": "fp32", "total_nimg": 8, "check_memory": False}


@pytest.fixture(scope="session")
def balls(tmp_path_factory):
    """A BIDS derivatives dataset of 20 people, 5 of them held out."""
    folder = tmp_path_factory.mktemp("balls")
    at = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    radius, rows = np.linalg.norm(at, axis=0), []
    for i in range(20):
        rng = numpy_rng("ball", i)
        labels = np.where(radius < rng.uniform(0.7, 0.95), 2, 0)
        labels[radius < rng.uniform(0.2, 0.5)] = 1
        x = np.choose(labels, [0, 0.2, 0.7]) * (1 + 0.1 * rng.normal(size=SHAPE))
        name = f"sub-{i:02d}"
        Volume((1000 * x.clip(0)).astype(np.int16), AFFINE).write(
            anat_path(folder, name, {}, "T1w")
        )
        Volume(labels.astype(np.uint8), AFFINE).write(
            anat_path(folder, name, {"desc": "truth"}, "dseg")
        )
        rows.append(
            {
                "participant_id": name,
                "age": 20 + i,
                "sex": "FM"[i % 2],
                "ventricles_ml": (labels == 1).sum() * 0.512,
                "brain_ml": (labels == 2).sum() * 0.512,
                "split": "val" if i % 4 == 0 else "train",
            }
        )
    write_tsv(folder / "participants.tsv", rows)
    return folder


@pytest.fixture(scope="session")
def models(balls, tmp_path_factory):
    """A generator and a segmenter, hardly trained."""
    root = tmp_path_factory.mktemp("models")
    data = {"kind": "bids", "path": str(balls), "labels_entities": {"desc": "truth"}}

    def train(name, task, data):
        Train.parse({**QUICK, "run": str(root / name), "task": task, "data": data}).execute()
        return root / name

    ae = train(
        "ae",
        {
            "kind": "autoencode",
            "perceptual_weight": 0,
            "model": {"kind": "kl", "channels": [8, 8], "z_channels": 2},
        },
        data,
    )
    Encode.parse({"autoencoder": ae, "out": root / "latents", "data": data}).execute()
    generator = train(
        "diffusion",
        {
            "kind": "diffuse",
            "model": {"kind": "unet", "channels": [8, 8]},
            "sampler": {"steps": 2},
            "covariates": {
                "age": {"unit": "years"},
                "sex": {"kind": "category"},
                "ventricles_ml": {"unit": "ml"},
                "brain_ml": {"unit": "ml"},
            },
        },
        {"kind": "latents", "path": str(root / "latents")},
    )
    segmenter = train(
        "segmenter",
        {
            "kind": "segment",
            "model": {"kind": "unet"},
            "structures": {"ventricles_ml": [1], "brain_ml": [2]},
        },
        data,
    )
    return generator, segmenter


@pytest.fixture
def asked(balls, models, tmp_path):
    """Settings of a small evaluation."""
    generator, segmenter = models
    return {
        "out": tmp_path / "evaluation",
        "generator": generator,
        "segmenter": segmenter,
        "n": 6,
        "data": {"kind": "bids", "path": balls},
        "pairs": 4,
        "pictures": 2,
        "device": "cpu",
    }


def test_the_whole(asked, tmp_path):
    report, summary = Evaluate.parse({**asked, "since": 0.0}).execute()
    found = json.loads(summary.read_text())
    r = found["reconstruction"]
    assert r["n"] == found["n_val"] == 5
    assert {"psnr_brain_db", "psnr_db", "psnr_brain_block_average_db", "ms_ssim"} <= set(r)
    assert r["worst_scan"].startswith("sub-")
    for structure in ("ventricles_ml", "brain_ml"):
        assert found["conditioning"][structure]["n"] == 6
        assert {"spearman_r", "slope", "bias_ml", "mae_ml"} <= set(found["conditioning"][structure])
        assert found["segmenter"][structure]["n"] == 5
    assert found["diversity"]["samples"]["n_pairs"] == found["diversity"]["real"]["n_pairs"] == 4
    assert found["wall_s"] > 1e9  # seconds since 1970

    rows = (report.parent / "measurements.tsv").read_text().splitlines()
    assert len(rows) == 1 + 2 * (6 + 5)
    requests = (report.parent / "requests.tsv").read_text().splitlines()
    assert requests[0] == "seed\tage\tsex\tventricles_ml\tbrain_ml"
    assert [line.split("\t")[0] for line in requests[1:]] == list("012345")

    html = report.read_text()
    assert html.count("<img ") == 4
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "<script" not in html

    assert "names real people" in html
    assert found["amiss"]  # of models that hardly learnt

    again = Evaluate.parse(asked).execute()  # the cohort is there: nothing is generated anew
    same = json.loads(again[1].read_text())
    assert same["conditioning"] == found["conditioning"]
    with pytest.raises(ConfigError, match="requests of other settings"):
        Evaluate.parse({**asked, "n": 5}).execute()

    given = {**asked, "out": tmp_path / "given", "samples": asked["out"] / "closed_loop"}
    report, summary = Evaluate.parse({**given, "pictures_of_people": False}).execute()
    assert not re.search(r"sub-\d\d\b", report.read_text() + summary.read_text())
    assert report.read_text().count("<img ") == 3
    third = json.loads(summary.read_text())
    for measure in ("slope", "mae_ml"):
        expected = found["conditioning"]["brain_ml"][measure]
        assert third["conditioning"]["brain_ml"][measure] == pytest.approx(expected)
    assert not (tmp_path / "given" / "requests.tsv").exists()


def test_without_a_segmenter(asked):
    del asked["segmenter"]
    report, summary = Evaluate.parse(asked).execute()
    found = json.loads(summary.read_text())
    assert "No segmenter was given" in found["notes"][0]
    assert "conditioning" not in found
    assert found["diversity"]["samples"]["n_volumes"] == 6
    assert "No segmenter was given" in report.read_text()


def test_a_folder_that_holds_something_else(asked):
    asked["out"].mkdir()
    (asked["out"] / "thesis.doc").write_text("precious")
    with pytest.raises(ConfigError, match="holds something else"):
        Evaluate.parse(asked).execute()
    assert [p.name for p in asked["out"].iterdir()] == ["thesis.doc"]


def test_data_on_another_grid(asked, tmp_path):
    for i in range(2):
        x = np.arange(512, dtype=np.int16).reshape(8, 8, 8)
        Volume(x, AFFINE).write(anat_path(tmp_path / "other", f"sub-{i}", {}, "T1w"))
    asked["data"] = {"kind": "bids", "path": tmp_path / "other", "val_fraction": 0}
    with pytest.raises(DataError, match=r"grid of 8x8x8 .* the generator on 16x20x16"):
        Evaluate.parse(asked).execute()
    assert not asked["out"].exists()


def test_spread():
    assert spread(list("abcde"), 3) == ["a", "c", "e"]
    assert spread(list("ab"), 5) == ["a", "b"]
    assert spread([], 5) == []
