"""`vol3d plan` tells what fits, without data and without allocating anything."""

from pathlib import Path

import pytest

from tests.conftest import AUTOENCODER, DIFFUSION, data_words, vol3d

CONFIG = "configs/ixi2mm/autoencoder.yaml"
NO_DATA = ["data.kind=bids", "data.path=none", "data.grid=2mm"]
PLAIN = ["task.adversarial.weight=0", "task.perceptual_weight=0", "task.model.num_res_blocks=1"]


@pytest.mark.slow
def test_the_cheapest_words_are_the_last_line():
    done = vol3d("plan", CONFIG, "gpu_gb=0.85", *NO_DATA, *PLAIN, "batch=4")
    assert done.returncode == 0, done.stderr
    *rows, told, best = done.stdout.splitlines()
    assert rows[0].split() == ["setting", "peak", "GiB", "time", "fits"]
    assert rows[1].startswith("(as it is)")
    assert rows[1].endswith("no")
    assert told.startswith("Fits: the peak and what lies beside it")
    assert best == "micro_batch=2"
    assert any(row.startswith(best) and row.endswith("yes") for row in rows)


@pytest.mark.slow
def test_one_line_where_nothing_fits():
    done = vol3d("plan", CONFIG, "gpu_gb=0.5", *NO_DATA, *PLAIN, "batch=1")
    assert done.returncode == 1
    assert "vol3d: nothing fits 0.5 GiB: the least, with what lies beside it, is" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_there_is_tells_its_size(cohort: Path, latents: Path):
    done = vol3d("plan", "run=none", *data_words(cohort), *AUTOENCODER, "total_nimg=8")
    assert done.returncode == 0, done.stderr
    assert "s/update" in done.stdout
    assert done.stdout.endswith("\n\n")  # it fits as it is
    words = ["data.kind=latents", f"data.path={latents}", *DIFFUSION, "total_nimg=8"]
    done = vol3d("plan", "run=none", *words)
    assert done.returncode == 0, done.stderr
