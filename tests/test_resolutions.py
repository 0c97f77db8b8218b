"""One model of several resolutions: every scan read at each, and the spacing a covariate."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.conftest import AUTOENCODER, DIFFUSION, SEGMENTER, data_words, read_log, verb
from vol3d.data.datasets import Bids
from vol3d.data.images import Images, grid_as_dict, grids_of
from vol3d.errors import ConfigError, DataError
from vol3d.tasks.job import Batch
from vol3d.trained import TrainedGenerator, TrainedSegmenter
from vol3d.volume import Volume, mni_grid

BOTH = "data.grid=[8mm,4mm]"
SPACING = "task.covariates.spacing_mm.unit=mm"


@pytest.fixture(scope="module")
def road(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Autoencoder, latents and diffusion model at 4 and 8 mm."""
    folder = tmp_path_factory.mktemp("resolutions")
    data = [*data_words(cohort), BOTH]
    verb("train", f"run={folder / 'ae'}", *data, *AUTOENCODER, "batch=4", "total_nimg=8")
    verb("encode", str(folder / "ae"), str(folder / "z"), *data, "device=cpu")
    latents = ["data.kind=latents", f"data.path={folder / 'z'}"]
    verb("train", f"run={folder / 'ldm'}", *latents, *DIFFUSION, SPACING, "total_nimg=16")
    return folder


def test_every_scan_is_read_at_every_resolution(cohort: Path):
    data = Bids.parse({"path": str(cohort), "entities": {"desc": "brain"}, "grid": ["8mm", "4mm"]})
    images = Images(data)
    names = [s.name for s in images.train[:2]]
    assert names == ["sub-0001_res-4mm", "sub-0001_res-8mm"]
    assert [s.covariates["spacing_mm"] for s in images.train[:2]] == [4.0, 8.0]
    assert [images.image(s).shape for s in images.train[:2]] == [
        (1, 40, 56, 40),
        (1, 20, 28, 20),
    ]
    assert images.grid.shape == (40, 56, 40)  # the finest
    one = Images(Bids.parse({**data.dump(), "grid": "4mm"}))
    assert len(images.train) == 2 * len(one.train)
    assert {s.subject for s in images.val} == {s.subject for s in one.val}
    assert images.fingerprint()["sha256"] == one.fingerprint()["sha256"]


def test_images_of_different_shapes_are_never_stacked():
    sizes = [4, 8, 4, 8, 4]
    drawn = [{"x": torch.full((1, n, n, n), float(i))} for i, n in enumerate(sizes)]
    rngs = [torch.Generator() for _ in sizes]
    names = list("abcde")
    batch = Batch(10, names, [{} for _ in sizes], rngs, drawn, names)
    micros = list(batch.split(2))
    assert [m.names for m in micros] == [["a", "c"], ["e"], ["b", "d"]]
    assert [m.nimg for m in micros] == [10, 10, 10]
    assert [m.tensors["x"].shape[2] for m in micros] == [4, 4, 8]
    assert micros[2].rngs == [rngs[1], rngs[3]]


def test_latents_have_their_own_shapes_and_one_standard(road: Path):
    manifest = json.loads((road / "z" / "latents.json").read_text())
    assert manifest["latent_shape"] == [10, 14, 10]
    means = {s["name"]: load_file(road / "z" / s["file"])["mean"] for s in manifest["scans"]}
    assert means["sub-0001_res-4mm"].shape[1:] == (10, 14, 10)
    assert means["sub-0001_res-8mm"].shape[1:] == (5, 7, 5)
    assert read_log(road / "ldm")[-1]["event"] == "validation"


def test_samples_have_the_spacing_that_is_asked_for(road: Path, tmp_path: Path, caplog):
    words = ["generate", str(road / "ldm"), str(tmp_path / "out")]
    verb(*words, "n=3", "micro_batch=2", "device=cpu")
    verb(*words, "n=2", "seed=10", "spacing_mm=8", "micro_batch=2", "device=cpu")
    verb(*words, "n=1", "seed=20", "spacing_mm=5", "micro_batch=2", "device=cpu")
    for seed, spacing in ((0, 4.0), (2, 4.0), (11, 8.0), (20, 5.0)):
        made = Volume.read(next((tmp_path / "out").glob(f"sub-{seed:06d}/anat/*T1w.nii.gz")))
        assert made.grid.matches(mni_grid(spacing))
        assert made.data.std() > 0


def test_a_table_may_mix_them(road: Path, tmp_path: Path):
    table = tmp_path / "mixed.tsv"
    table.write_text("seed\tspacing_mm\n0\t4\n1\t8\n2\tn/a\n3\t8\n")
    out = verb(
        "generate",
        str(road / "ldm"),
        str(tmp_path / "m"),
        f"covariates={table}",
        "micro_batch=2",
        "device=cpu",
    )
    shapes = [Volume.read(p).grid.shape[0] for p in sorted(out.glob("sub-*/anat/*T1w.nii.gz"))]
    assert shapes == [40, 20, 40, 20]
    model = TrainedGenerator(road / "ldm")
    row = model.complete({"spacing_mm": 8.0}, 1)
    alone = model.generate([row, row], [1, 1])[1, 0].numpy()
    mixed = Volume.read(next(out.glob("sub-000001/anat/*T1w.nii.gz"))).data
    assert np.abs(alone - mixed).max() < 1e-3


def test_evaluation_is_of_one_resolution_at_a_time(road: Path, cohort: Path, tmp_path: Path):
    words = [f"generator={road / 'ldm'}", *data_words(cohort), "n=3", "pairs=1", "device=cpu"]
    with pytest.raises(ConfigError, match="one resolution is evaluated at a time"):
        verb("evaluate", str(tmp_path / "a"), *words, BOTH)
    verb("evaluate", str(tmp_path / "b"), *words, "data.grid=8mm")
    made = [Volume.read(p) for p in (tmp_path / "b" / "closed_loop").glob("sub-*/anat/*T1w.nii.gz")]
    assert [v.grid.shape for v in made] == [(20, 28, 20)] * 3


def test_what_does_not_go(road: Path, cohort: Path, tmp_path: Path):
    latents = ["data.kind=latents", f"data.path={road / 'z'}"]
    with pytest.raises(ConfigError, match=r"several resolutions.*task\.covariates\.spacing_mm"):
        verb("train", f"run={tmp_path / 'a'}", *latents, *DIFFUSION, "total_nimg=4")
    words = [*data_words(cohort), "data.grid=2mm", "device=cpu"]
    with pytest.raises(DataError, match=r"voxels of \(2.0, 2.0, 2.0\) mm, the autoencoder learnt"):
        verb("encode", str(road / "ae"), str(tmp_path / "z"), *words)
    with pytest.raises(ConfigError, match="spacing_mm=-1: voxels are larger than 0 mm"):
        verb("generate", str(road / "ldm"), str(tmp_path / "g"), "spacing_mm=-1", "device=cpu")
    with pytest.raises(ConfigError, match="grid"):
        Bids.parse({"path": str(cohort), "grid": "fine"})


def test_another_spacing_keeps_the_field_of_view():
    assert mni_grid(1).at(4).matches(mni_grid(4))
    assert mni_grid(4).at(1.5).matches(mni_grid(1.5))
    assert mni_grid(2).at(2).matches(mni_grid(2))


def test_a_segmenter_of_both(cohort: Path, tmp_path: Path):
    words = [*data_words(cohort), *SEGMENTER, BOTH, "total_nimg=4"]
    verb("train", f"run={tmp_path / 's'}", *words)
    assert [g.shape[0] for g in TrainedSegmenter(tmp_path / "s").grids] == [40, 20]


def test_a_segmenter_of_another_resolution(
    road: Path, cohort: Path, segmenter: Path, tmp_path: Path
):
    words = [
        f"generator={road / 'ldm'}",
        *data_words(cohort),
        f"segmenter={segmenter}",
        "device=cpu",
    ]
    with pytest.raises(
        DataError, match=r"learnt from voxels of \(4.0, 4.0, 4.0\) mm, these images have"
    ):
        verb("evaluate", str(tmp_path / "a"), *words, "data.grid=8mm", "n=3")


def test_a_spacing_that_was_trained_on_has_the_grid_of_training():
    grids = grids_of({"grids": [grid_as_dict(mni_grid(s)) for s in (1.5, 3.0)]})
    assert grids[1].matches(mni_grid(3.0))
    assert not grids[0].at(3.0).matches(mni_grid(3.0))  # why they are kept


def test_spacing_is_a_number(road: Path, tmp_path: Path):
    words = ["data.kind=latents", f"data.path={road / 'z'}", *DIFFUSION, "total_nimg=4"]
    with pytest.raises(ConfigError, match=r"spacing_mm: is a number, in mm"):
        verb("train", f"run={tmp_path / 'a'}", *words, "task.covariates.spacing_mm.kind=category")
