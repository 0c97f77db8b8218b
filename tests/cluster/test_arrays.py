"""Arrays on a real SLURM: what tasks make at the same time, are killed at and go on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.cluster.cluster import ROOT, Cluster, processes_of
from tests.conftest import AUTOENCODER, data_words, vol3d
from vol3d.data.tables import read_rows
from vol3d.volume import Volume

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
ARRAY = Path("slurm/array.sbatch")
SLOWLY = ["sampler.steps=12", "micro_batch=2", "device=cpu"]


@pytest.fixture(scope="module")
def alone(cluster: Cluster, diffusion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 brains of one process, with as many threads as a task has: last bits depend on that."""
    out = tmp_path_factory.mktemp("alone") / "cohort"
    done = vol3d("generate", str(diffusion), str(out), "n=24", *SLOWLY, env=cluster.env)
    assert done.returncode == 0, done.stderr
    return out


def assert_same_cohort(a: Path, b: Path) -> None:
    """Bit for bit, with the same table."""
    names, others = (sorted(p.relative_to(d) for p in d.rglob("sub-*.nii.gz")) for d in (a, b))
    assert names == others
    assert all(np.array_equal(Volume.read(a / n).data, Volume.read(b / n).data) for n in names)
    rows = read_rows(a / "participants.tsv")
    assert rows == read_rows(b / "participants.tsv")
    assert len(rows) == len(list(b.rglob("sub-*_T1w.json")))
    assert len(names) == 2 * len(rows)  # the image and its brain mask


def made(out: Path, seeds: range | set[int]) -> list[Path]:
    """The brains of some seeds that are complete."""
    return [p for s in sorted(seeds) for p in out.glob(f"sub-{s:06d}/anat/*_T1w.json")]


def wait_until_made(out: Path, seeds: set[int], n: int) -> None:
    end = time.monotonic() + 120
    while len(made(out, seeds)) < n:
        assert time.monotonic() < end, f"{len(made(out, seeds))} of {n} brains are made"
        time.sleep(0.02)


def test_an_array_with_a_killed_task_makes_the_cohort_of_one_process(
    cluster: Cluster, diffusion: Path, alone: Path, tmp_path: Path
):
    words = ["generate", str(diffusion), "cohort", "n=24", *SLOWLY]
    job = cluster.submit(ARRAY, *words, cwd=tmp_path, options=("--array=1-4",))
    third = {s for i in (2, 6, 10) for s in (2 * i, 2 * i + 1)}  # every fourth batch of two
    wait_until_made(tmp_path / "cohort", third, 1)
    cluster.signal(f"{job}_3", "KILL")
    cluster.wait(f"{job}_3", "FAILED", "CANCELLED")
    lost = len(third) - len(made(tmp_path / "cohort", third))
    assert lost > 0  # it was killed at work
    for task in (1, 2, 4):
        cluster.wait(f"{job}_{task}")
    assert f"{lost} of 24 brains are still for other shards to make" in cluster.log(job)
    assert len(made(tmp_path / "cohort", range(24))) == 24 - lost

    again = cluster.submit(ARRAY, *words, cwd=tmp_path, options=("--array=3",), VOL3D_SHARDS="4")
    cluster.wait(again)
    assert_same_cohort(tmp_path / "cohort", alone)


@pytest.mark.parametrize("how", ["the time is nearly over", "an urgent job wants the node"])
def test_a_task_that_must_leave_goes_on_later(
    cluster: Cluster, diffusion: Path, alone: Path, tmp_path: Path, how: str
):
    out = tmp_path / "cohort"
    words = ["generate", str(diffusion), str(out), "n=24", *SLOWLY]
    job = cluster.submit(ARRAY, *words, cwd=tmp_path)
    wait_until_made(out, set(range(24)), 1)
    if how == "the time is nearly over":
        cluster.signal(job, "USR1")
        cluster.wait(job, "PENDING")
    else:
        with cluster.preempting() as urgent:
            cluster.wait(urgent, "RUNNING")
            cluster.wait(job, "PENDING")
    before = {p: p.stat().st_mtime_ns for p in made(out, range(24))}
    assert 0 < len(before) < 24
    cluster.start_now(job)
    cluster.wait(job)
    assert cluster.show(job)[0]["Restarts"] == "1"
    assert all(p.stat().st_mtime_ns == at for p, at in before.items())
    assert_same_cohort(out, alone)


def test_tasks_that_end_together_leave_whole_latents(
    cluster: Cluster, autoencoder: Path, cohort: Path, tmp_path: Path
):
    words = [*data_words(cohort), "device=cpu"]
    job = cluster.submit(
        ARRAY, "encode", autoencoder, "z", *words, cwd=tmp_path, options=("--array=1-4",)
    )
    done = vol3d("encode", str(autoencoder), "alone", *words, cwd=tmp_path, env=cluster.env)
    assert done.returncode == 0, done.stderr
    cluster.wait(job)
    folders = tmp_path / "z", tmp_path / "alone"
    manifests = [json.loads((d / "latents.json").read_text()) for d in folders]
    assert manifests[0] == manifests[1]
    for scan in manifests[0]["scans"]:
        a, b = (load_file(d / scan["file"]) for d in folders)
        assert all(np.array_equal(a[k], b[k]) for k in ("mean", "logvar"))


def test_a_task_that_fails_says_why_and_is_not_repeated(cluster: Cluster, tmp_path: Path):
    job = cluster.submit(ARRAY, "generate", "none", "out", cwd=tmp_path, options=("--array=1-2",))
    cluster.wait(job, "FAILED")
    assert cluster.log(job).count("vol3d: none: no such folder") == 2
    assert {task["Restarts"] for task in cluster.show(job)} == {"0"}


def test_a_part_that_there_cannot_be_is_refused(cluster: Cluster, diffusion: Path, tmp_path: Path):
    words = ["generate", str(diffusion), "out", "device=cpu"]
    job = cluster.submit(ARRAY, *words, cwd=tmp_path, options=("--array=3",))
    cluster.wait(job, "FAILED")
    assert "vol3d: shard: '3/1' is no shard" in cluster.log(job)
    assert not (tmp_path / "out").exists()


def test_training_on_one_node(cluster: Cluster, cohort: Path, tmp_path: Path):
    words = ["run=ae", *data_words(cohort), *AUTOENCODER, "total_nimg=4"]
    job = cluster.submit("slurm/train.sbatch", *words, cwd=tmp_path)
    cluster.wait(job)
    assert (tmp_path / "ae" / "bundle" / "model.safetensors").is_file()


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "slurm").glob("*.sbatch")))
def test_the_batch_files_are_short_and_their_options_known(
    cluster: Cluster, tmp_path: Path, file: str
):
    assert len((ROOT / "slurm" / file).read_text().splitlines()) < 40
    cluster.submit(f"slurm/{file}", cwd=tmp_path, options=("--test-only",))
    options = ("--mem=8G", "--partition=urgent", "--time=10", "--test-only")
    cluster.submit(f"slurm/{file}", cwd=tmp_path, options=options)


def test_what_a_killed_test_run_leaves_is_swept_away(cluster: Cluster):
    program = "from tests.cluster.cluster import Cluster as C; c = C(); c.start(); print(c.folder)"
    end = "; import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    flush = "; import sys; sys.stdout.flush()"
    done = subprocess.run(
        [sys.executable, "-c", program + flush + end], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL
    left = Path(done.stdout.strip())
    assert len(processes_of(left)) >= 4
    other = Cluster()
    try:
        other.start()
        assert not processes_of(left)
        assert not left.exists()
        assert other.nodes() == ["idle", "idle"]
        assert cluster.nodes()  # that of somebody who lives is left alone
    finally:
        other.stop()
    assert not processes_of(other.folder)
    assert os.getpid() not in processes_of(cluster.folder)
