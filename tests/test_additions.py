"""Additions that need no change of the package: a contrast that guides, a slice, inpainting."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.conftest import verb
from vol3d.data.bids_writer import sidecar_of
from vol3d.data.tables import read_rows
from vol3d.diffusion.inpainting import inpainting
from vol3d.errors import ConfigError
from vol3d.trained.generator import TrainedGenerator
from vol3d.volume import Volume

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
SHAPE = (8, 10, 8)
TRAINING = ["batch=8", "optim.lr=3e-3", "ema_halflife=200", "log_every=400", "preview_every=8000"]
TRAINING += ["trackers={tensorboard: null}", "task.kind=diffuse", "check_memory=false"]


def pattern(seed: int) -> np.ndarray:
    """A smooth random pattern in [0.2, 1]."""
    noise = np.random.default_rng(seed).standard_normal(SHAPE)
    smooth = ndimage.gaussian_filter(noise, 1.5)
    return (0.2 + 0.8 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


def write(path: Path, data: np.ndarray) -> Path:
    Volume(data, AFFINE, 4).write(path)
    return path


@pytest.fixture(scope="module")
def two_contrasts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People whose T2w is their T1w turned over, so that one says all about the other; some lack it."""
    folder = tmp_path_factory.mktemp("two")
    rows = ["subject\tT1w\tT2w\tsplit"]
    for i in range(48):
        t1 = pattern(i)
        write(folder / f"{i}_T1w.nii.gz", t1)
        write(folder / f"{i}_T2w.nii.gz", np.float32(1.2) - t1)
        t2 = "n/a" if i % 8 == 0 else f"{i}_T2w.nii.gz"
        rows.append(f"{i:02d}\t{i}_T1w.nii.gz\t{t2}\t{'val' if i % 6 == 5 else 'train'}")
    (folder / "table.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def t1_given_t2(two_contrasts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "t1_given_t2"
    verb(
        *("train", f"run={run}", "data.kind=table", f"data.path={two_contrasts / 'table.tsv'}"),
        *(*TRAINING, "total_nimg=1600", "task.target=images", "task.sampler.steps=8"),
        "task.model={kind: unet, channels: [16, 16], attention_levels: [false, false]}",
        "task.conditions={vector: null, t2: {kind: image, of: T2w}}",
    )
    return run


def test_a_second_contrast_guides(t1_given_t2: Path):
    model = TrainedGenerator(t1_given_t2)
    truth = [pattern(100 + i) for i in range(4)]
    given = [{"T2w": Volume(np.float32(1.2) - t, AFFINE)} for t in truth]
    x = model.generate([{}] * 4, [0, 1, 2, 3], given)[:, 0].numpy()
    free = model.generate([{}] * 4, [0, 1, 2, 3])[:, 0].numpy()
    follows = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(x, truth, strict=True)]
    alone = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(free, truth, strict=True)]
    assert min(follows) > 0.9
    assert max(map(abs, alone)) < 0.6


def test_a_brain_for_each_visit(t1_given_t2: Path, two_contrasts: Path, tmp_path: Path):
    """`vol3d generate` draws what a data set lacks, and says in the sidecar what guided it."""
    words = ["generate", str(t1_given_t2), str(tmp_path / "out"), "data.kind=table"]
    verb(*words, f"data.path={two_contrasts / 'table.tsv'}", "n=9")
    for i in range(9):
        (path,) = (tmp_path / "out" / f"sub-{i:06d}" / "anat").glob("*_T1w.nii.gz")
        guided = json.loads(sidecar_of(path).read_text())["GuidedBy"]
        assert guided == {"Visit": f"sub-{i:02d}", "Images": [] if i % 8 == 0 else ["T2w"]}
        follows = np.corrcoef(Volume.read(path).data.ravel(), pattern(i).ravel())[0, 1]
        assert follows > 0.9 or i % 8 == 0
    verb(*words, f"data.path={two_contrasts / 'table.tsv'}", "n=9")  # all are there
    with pytest.raises(ConfigError, match="is there already, with other images"):
        verb(
            *words,
            f"data.path={two_contrasts / 'table.tsv'}",
            "n=9",
            "data.subjects=[05,06,07,09,10,11,12,13,14]",
        )


def slices(cohort: Path, folder: Path) -> Path:
    """The middle axial slice of each brain at 8 mm, one voxel thick, and a table of them."""
    rows = ["subject\timage\tventricles_ml\tsplit"]
    for row in read_rows(cohort / "participants.tsv"):
        person = row["participant_id"]
        brain = Volume.read(next(cohort.glob(f"{person}/anat/*desc-brain_T1w.nii.gz")))
        k = brain.shape[2] // 2
        affine = brain.affine @ np.diag([2, 2, 1, 1])
        affine[:3, 3] = brain.affine[:3] @ [0.5, 0.5, k, 1]
        coarse = brain.data[:, :, k].reshape(20, 2, 28, 2).mean((1, 3))[..., None]
        Volume(coarse, affine, 4).write(folder / f"{person}.nii.gz")
        rows.append(
            f"{row['participant_id']}\t{row['participant_id']}.nii.gz\t{row['ventricles_ml']}\t{row['split']}"
        )
    (folder / "table.tsv").write_text("\n".join(rows) + "\n")
    return folder / "table.tsv"


def test_a_generator_in_two_dimensions(cohort: Path, tmp_path: Path):
    table = slices(cohort, tmp_path)
    verb(
        *("train", f"run={tmp_path / 'run'}", "data.kind=table", f"data.path={table}"),
        *(*TRAINING, "total_nimg=640", "task.target=images", "task.sampler.steps=8"),
        "task.model={kind: unet, channels: [16, 24, 32]}",
        "task.conditions.place.kind=coordinates",
        "task.covariates={ventricles_ml: {unit: ml}}",
    )
    verb("generate", str(tmp_path / "run"), str(tmp_path / "out"), "n=4", "ventricles_ml=30")
    made = [Volume.read(p) for p in sorted((tmp_path / "out").glob("sub-*/anat/*_T1w.nii.gz"))]
    real = [Volume.read(p) for p in sorted(tmp_path.glob("sub-*.nii.gz"))]
    assert len(made) == 4
    assert all(v.grid.matches(real[0].grid) for v in made)  # 20 x 28 x 1, where the slice was
    a, b = (np.mean([v.data for v in some], axis=0).ravel() for some in (made, real))
    assert np.corrcoef(a, b)[0, 1] > 0.8


@pytest.mark.parametrize("solver", ["dpmpp_2m", "ddpm"])
def test_inpainting_by_replacement(t1_given_t2: Path, solver: str):
    """Known voxels come out as they are, and the rest goes with them; no solver knows of it."""
    schedule = {} if solver == "dpmpp_2m" else {"schedule": {"kind": "vp"}}
    model = TrainedGenerator(t1_given_t2, sampler={"solver": solver, "steps": 20, **schedule})
    truth = pattern(200)
    known = model.codec.encode_given("T1w", torch.from_numpy(truth)[None, None])
    mask = torch.ones(1, 1, *SHAPE)
    mask[..., 3:5, 4:7, 3:5] = 0
    x = model.generate([{}], [0], around=inpainting(known, mask))[0, 0].numpy()
    hole = mask[0, 0].numpy() == 0
    np.testing.assert_allclose(x[~hole], truth[~hole], atol=1e-4)
    free = model.generate([{}], [0])[0, 0].numpy()
    off = [np.abs(v[hole] - truth[hole]).mean() for v in (x, free)]
    assert off[0] < 0.5 * off[1]
