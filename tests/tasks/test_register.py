"""Registrars are trained, go on after a stop, and are opened again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import vol3d as v
from tests.conftest import TINY, data_words, once, read_log, verb
from vol3d.cli import fill, load_verb
from vol3d.data.rng import torch_rng
from vol3d.errors import ConfigError, DataError
from vol3d.tasks.register import compared
from vol3d.trained import open_registrar
from vol3d.volume import Volume, mni_grid

REGISTRAR = [
    "task.kind=register",
    "task.model.channels=[8,8]",
    "task.objective.window=5",
    "data.labels_entities.desc=tissue",
    "data.subjects=[0001,0002,0003,0006,0012]",
    "batch=1",
    "optim.lr=3e-3",
    *TINY,
]


def train(run: Path, cohort: Path, *words: str) -> Path:
    return verb("train", f"run={run}", *data_words(cohort), *REGISTRAR, *words)


def job(cohort: Path, *words: str):
    words = ["run=unused", "total_nimg=1", *data_words(cohort), *REGISTRAR, *words]
    training = fill("train", load_verb("train"), words)
    return training.task.job(training.data)


@pytest.fixture(scope="module")
def registrar(cohort: Path, parts: Path) -> Path:
    words = ["task.labels=labels", "total_nimg=12", "save_every=6", "ema_halflife=2"]
    return once(parts / "registrar", lambda run: train(run, cohort, *words))


def test_a_registrar_learns_and_is_opened(registrar: Path, cohort: Path):
    first, *_, last = [r for r in read_log(registrar) if r["event"] == "validation"]
    assert first["dice"] == pytest.approx(first["dice_before"], abs=1e-3)
    assert last["unlike"] < first["unlike"] - 0.01
    assert last["ndv_percent"] == 0
    opened = open_registrar(registrar)
    assert opened.contrasts == ["T1w"]
    assert opened.quality["n"] == 2
    assert opened.quality["dice"] == pytest.approx(last["dice"])
    opened.check_grid(mni_grid(4.0))
    with pytest.raises(DataError, match="learnt from voxels"):
        opened.check_grid(mni_grid(2.0))
    moving, fixed = (
        torch.from_numpy(Volume.read(p).data / 255.0).float()[None, None]
        for p in sorted(cohort.glob("sub-000[45]/anat/*_desc-brain_T1w.nii.gz"))
    )
    there, back = opened(moving, fixed), opened(fixed, moving)
    torch.testing.assert_close(there.displacement(), back.inverse(), atol=1e-4, rtol=0)
    with torch.inference_mode():  # where gradients are none of the caller's business
        searched = opened(moving, fixed, optimise=2)
    assert (searched.displacement() - there.displacement()).abs().max() > 0.01
    known = v.load(registrar, device="cpu")
    assert isinstance(known, v.Registrar)
    assert known.model.checksum == opened.checksum
    odd = opened(moving[..., :39, :53, :38], fixed[..., :39, :53, :38])
    assert odd.displacement().shape == (1, 3, 39, 53, 38)


def test_a_run_goes_on_exactly(registrar: Path, cohort: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(registrar, run)
    shutil.rmtree(run / "bundle")
    shutil.rmtree(run / "checkpoints" / "nimg-0000000012")
    assert len([*(run / "checkpoints").iterdir()]) == 1
    words = ["task.labels=labels", "total_nimg=12", "save_every=6", "ema_halflife=2"]
    train(run, cohort, *words)
    mine, theirs = (load_file(r / "bundle" / "model.safetensors") for r in (run, registrar))
    assert all(mine[k].equal(theirs[k]) for k in theirs)


@pytest.mark.parametrize(
    "words",
    [
        ["task.guidance={kind: diffusemorph, model: {channels: [8, 8]}}"],
        ["task.guidance={kind: fsdiffreg, model: {channels: [8, 8]}}", "task.model.kind=svf"],
        ["task.guidance={kind: fsdiffreg, model: {channels: [8, 8]}}", "task.coarse=1"],
        ["task.labels=labels", "task.synthetic=1", "task.objective.dice=1", "task.at_a_time=3"],
    ],
    ids=["diffusemorph", "fsdiffreg", "coarse", "synthetic"],
)
def test_other_ways_are_trained(words: list[str], cohort: Path, tmp_path: Path, monkeypatch):
    run = train(tmp_path / "run", cohort, *words, "total_nimg=2", "log_every=1").parent
    [record, *_] = [r for r in read_log(run) if r["event"] == "train"]
    extra = "denoising" if "guidance" in words[0] else "dice"
    assert record[extra] > 0
    opened = open_registrar(run)
    x = torch.rand(2, 1, 1, 16, 20, 12)
    found = opened(*x).displacement()
    assert found.isfinite().all()
    monkeypatch.setattr(
        "vol3d.models.denoisers.unet.LARGE", 1
    )  # images in slabs, one after another
    torch.testing.assert_close(opened(*x).displacement(), found, atol=1e-3, rtol=1e-3)


def test_everybody_to_a_template(cohort: Path, tmp_path: Path):
    template = next(cohort.glob("sub-0007/anat/*_desc-brain_T1w.nii.gz"))
    made = job(cohort, f"task.to={template}")
    drawn = made.draw(made.scans[0], torch_rng(0))
    torch.testing.assert_close(drawn["fixed"], made.template, atol=0, rtol=0)
    assert made.template.amax() > 0.5
    assert made.pairs() == [(s, None) for s in made.images.val]
    elsewhere = tmp_path / "elsewhere.nii.gz"
    far = np.diag([4.0, 4.0, 4.0, 1.0])
    far[:3, 3] = 1000
    Volume(Volume.read(template).data, far).write(elsewhere)
    with pytest.raises(DataError, match=r"elsewhere.nii.gz: no voxel of the grid"):
        job(cohort, f"task.to={elsewhere}")


def test_what_is_drawn_depends_on_the_image_alone(cohort: Path):
    made = job(cohort, "task.labels=labels", "task.synthetic=0.5", "task.objective.dice=1")
    a, b, c = (made.draw(made.scans[0], torch_rng(n)) for n in (0, 0, 1))
    assert all(a[k].equal(b[k]) for k in a)
    assert not a["moving_seen"].equal(c["moving_seen"])
    # The partner is somebody else, and what the network sees lies where what is compared lies.
    assert not a["moving"].equal(a["fixed"])
    assert ((a["moving_seen"] > 0) == (a["moving"] > 0)).float().mean() > 0.98


def test_coarse_images_are_compared_and_whole_ones_seen(cohort: Path):
    fine, coarse = (
        job(cohort, f"task.coarse={share}").draw(job(cohort).scans[0], torch_rng(0))
        for share in (0, 1)
    )
    for side in ("moving", "fixed"):
        assert coarse[f"{side}_seen"].equal(fine[f"{side}_seen"])
        half = torch.nn.functional.avg_pool3d(fine[side], 2)
        torch.testing.assert_close(coarse[side], half)


def test_halved_images_are_compared_after_all_velocities_but_the_finest():
    shifts = [torch.full((1, 3, n, n, n), 0.1) for n in (4, 8, 16)]  # voxels of 8, 4 and 2
    whole = compared(shifts, (30, 32, 27), 8, is_coarse=False).displacement()
    torch.testing.assert_close(whole, torch.full((1, 3, 30, 32, 27), 0.8 + 0.4 + 0.2))
    half = compared(shifts, (15, 16, 14), 8, is_coarse=True).displacement()
    torch.testing.assert_close(half, torch.full((1, 3, 15, 16, 14), (0.8 + 0.4) / 2))
    alone = compared(shifts[2:], (15, 16, 14), 8, is_coarse=True).displacement()
    torch.testing.assert_close(alone, torch.full((1, 3, 15, 16, 14), 0.2 / 2))


@pytest.mark.parametrize(
    ("words", "error", "line"),
    [
        (["task.synthetic=0.5"], ConfigError, "need a label map"),
        (["task.objective.window=4"], ConfigError, "has no middle voxel; take 5"),
        (["data.grid=own"], ConfigError, "pairs lie on one grid"),
        (["data.grid=[2mm,4mm]"], ConfigError, "pairs lie on one grid"),
    ],
)
def test_wrong_settings_get_one_line(words, error, line, cohort: Path):
    with pytest.raises(error, match=line):
        job(cohort, *words)


def test_one_person_is_no_pair(cohort: Path):
    words = ["run=unused", "total_nimg=1", *data_words(cohort), *REGISTRAR, "data.subjects=0001"]
    training = fill("train", load_verb("train"), words)
    with pytest.raises(DataError, match="pairs of people"):
        training.task.check(training.data.scans())
