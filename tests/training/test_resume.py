"""Killed anywhere and started again, a run ends with the weights of one that was never stopped."""

import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import AUTOENCODER, DIFFUSION, VQ, data_words, read_log, verb, vol3d
from vol3d.cli import fill, load_verb
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError
from vol3d.io.reading import read_json
from vol3d.training.checkpoint import Checkpoints, digest

ADVERSARIAL = [
    "task.adversarial={weight: 0.1, start_nimg: 8, warmup_nimg: 8}",
    "task.adversarial.model={channels: 4, layers: 2}",
]
OFTEN = ["total_nimg=64", "log_every=4", "save_every=4", "preview_every=32"]


def weights(run: Path) -> dict:
    return load_file(run / "bundle" / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    mine, theirs = weights(a), weights(b)
    return mine.keys() == theirs.keys() and all(mine[k].equal(theirs[k]) for k in mine)


def kill_at_random(words: list[str], run: Path, kills: int, seed: int) -> int:
    """Start the run and kill it with SIGKILL once it has gone on a random number of checkpoints."""
    rng, killed = random.Random(seed), 0
    while killed < kills and not (run / "bundle").is_dir():
        process = subprocess.Popen(
            [sys.executable, "-m", "vol3d", "train", f"run={run}", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seen = newest(run)
        more, deadline = rng.randint(1, 3), time.monotonic() + 60
        while newest(run) < seen + 4 * more and process.poll() is None:
            assert time.monotonic() < deadline, "the run makes no checkpoints"
            time.sleep(0.005)
        time.sleep(rng.random() * 0.1)  # anywhere: in a step, in a checkpoint, in a log line
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    return killed


def newest(run: Path) -> int:
    found = Checkpoints(run / "checkpoints", 2).all()
    return int(found[-1].name.removeprefix("nimg-")) if found else 0


@pytest.mark.parametrize(
    ("stage", "kills"),
    [
        ("diffusion", 2),
        pytest.param("autoencoder with discriminator", 3, marks=pytest.mark.slow),
        pytest.param("vq-gan", 3, marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(
    stage: str, kills: int, cohort: Path, latents: Path, tmp_path: Path
):
    if stage == "diffusion":
        words = ["data.kind=latents", f"data.path={latents}", *DIFFUSION, *OFTEN]
    else:
        model = VQ if stage == "vq-gan" else ADVERSARIAL
        words = [*data_words(cohort), *AUTOENCODER, *model, *OFTEN]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    verb("train", f"run={straight}", *words)
    assert kill_at_random(words, broken, kills, seed=1) == kills
    done = vol3d("train", f"run={broken}", *words)
    assert done.returncode == 0, done.stderr
    assert "going on at image" in done.stderr
    assert same(straight, broken)
    steps = [
        [r["nimg"] for r in read_log(run) if r["event"] == "train"] for run in (straight, broken)
    ]
    assert steps[0] == steps[1] == list(range(4, 65, 4))  # the log has no gap and no line twice


def words_to(total: int, run: Path, latents: Path) -> list[str]:
    where = [f"run={run}", "data.kind=latents", f"data.path={latents}"]
    return [*where, *DIFFUSION, *OFTEN[1:], f"total_nimg={total}"]


def train_to(total: int, run: Path, latents: Path, *more: str) -> None:
    verb("train", *words_to(total, run, latents), *more)


def test_a_finished_run_is_made_longer(latents: Path, tmp_path: Path):
    """It goes on from its end, also when it is stopped on the way; and it is never made shorter."""
    run, stopped = tmp_path / "run", tmp_path / "stopped"
    train_to(8, run, latents)
    shutil.copytree(run, stopped)
    fill("train", load_verb("train"), words_to(16, run, latents)).foresee()
    train_to(16, run, latents)
    assert read_json(run / "bundle" / "training.json")["images"] == 16
    seen = [r["nimg"] for r in read_log(run) if r["event"] == "train"]
    assert seen == [4, 8, 12, 16]
    assert not same(run, stopped)
    on_the_way = Path("checkpoints", "nimg-0000000012")
    shutil.copytree(run / on_the_way, stopped / on_the_way)
    train_to(16, stopped, latents)
    assert same(run, stopped)
    with pytest.raises(ConfigError, match=r"a run of total_nimg=16, .* never shorter"):
        train_to(8, run, latents)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ConfigError, match="no checkpoint from which it could be made longer"):
        train_to(24, run, latents)


def test_a_damaged_newest_checkpoint_falls_back(
    latents: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    straight, damaged = tmp_path / "straight", tmp_path / "damaged"
    train_to(16, straight, latents)
    train_to(16, damaged, latents)
    shutil.rmtree(damaged / "bundle")
    caplog.set_level(logging.INFO)
    broken = Checkpoints(damaged / "checkpoints", 2).all()[-1] / "tensors.safetensors"
    content = bytearray(broken.read_bytes())
    content[-3] ^= 1
    broken.write_bytes(content)
    train_to(16, damaged, latents)
    assert "missing or damaged; falling back" in caplog.text
    assert "going on at image 12" in caplog.text
    assert same(straight, damaged)


@pytest.mark.parametrize("changed", ["FLAIR", "labels", "mask"])
def test_other_files_are_other_data(changed: str, tmp_path: Path):
    """Any file of a visit, not only the first of its images."""
    files = {n: tmp_path / n for n in ("T1w", "FLAIR", "labels", "mask")}
    for path in files.values():
        path.write_bytes(b"1")
    images = {n: files[n] for n in ("T1w", "FLAIR")}
    maps = {"labels": files["labels"]}
    visit = Visit("1", None, images, {}, "train", labels=maps, mask=files["mask"])
    before = digest([visit])
    assert digest([visit]) == before
    files[changed].write_bytes(b"22")
    assert digest([visit]) != before


def test_a_codebook_goes_on_where_it_was(cohort: Path, tmp_path: Path):
    words = [*data_words(cohort), *AUTOENCODER, *VQ, *OFTEN[1:], "total_nimg=16"]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    verb("train", f"run={straight}", *words)
    shutil.copytree(straight, broken)
    shutil.rmtree(broken / "bundle")
    shutil.rmtree(Checkpoints(broken / "checkpoints", 2).all()[-1])  # of image 16
    verb("train", f"run={broken}", *words)
    assert same(straight, broken)


def test_only_the_last_checkpoints_are_kept(latents: Path, tmp_path: Path):
    train_to(24, tmp_path / "run", latents, "keep=3")
    names = [p.name for p in Checkpoints(tmp_path / "run" / "checkpoints", 3).all()]
    assert names == ["nimg-0000000016", "nimg-0000000020", "nimg-0000000024"]


def test_the_noise_of_an_image_does_not_depend_on_micro_batches(latents: Path, tmp_path: Path):
    train_to(8, tmp_path / "whole", latents)
    train_to(8, tmp_path / "parts", latents, "micro_batch=2")
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(a[k].allclose(b[k], atol=2e-4) for k in a)
