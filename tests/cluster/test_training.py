"""Training on a real SLURM of two nodes: preempted, killed, called back, and moved elsewhere."""

import contextlib
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.conftest import AUTOENCODER, DIFFUSION, data_words
from tests.training.test_ranks import GAN, QUIET, apart, assert_goes_on_alike, weights

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1", "--mem=4G", "--gres=none")
ONE_NODE = ("--nodes=1", "--ntasks=1", "--mem=4G", "--gres=none")
HERE = {"MASTER_ADDR": "127.0.0.1"}  # n1 and n2 are names of this machine that nobody knows
OFTEN = ["log_every=4", "save_every=8", "preview_every=1000", *QUIET]


@pytest.fixture(scope="module", params=["diffusion with ZeRO 2", "autoencoder with discriminator"])
def words(request: pytest.FixtureRequest, latents: Path, cohort: Path) -> list[str]:
    """A training that takes some seconds."""
    if request.param.startswith("diffusion"):
        zero = ["engine={kind: deepspeed, stage: 2}", "task.model.checkpointing=true"]
        data = ["data.kind=latents", f"data.path={latents}"]
        return [*DIFFUSION, *OFTEN, *zero, *data, "device=cpu", "total_nimg=240"]
    return [*data_words(cohort), *AUTOENCODER, *GAN, *OFTEN, "batch=4", "total_nimg=240"]


@pytest.fixture(scope="module")
def straight(cluster: Cluster, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on two nodes that nobody interrupts."""
    folder = tmp_path_factory.mktemp("straight")
    cluster.wait(start(cluster, folder, words))
    return folder / "run"


def start(cluster: Cluster, folder: Path, words: list[str], options: tuple = TWO_NODES) -> str:
    file = "slurm/train_nodes.sbatch" if options == TWO_NODES else "slurm/train.sbatch"
    return cluster.submit(file, "run=run", *words, cwd=folder, options=options, **HERE)


def wait_until_saved(run: Path, nimg: int) -> None:
    end = time.monotonic() + 120
    while not any(int(p.name[5:]) >= nimg for p in (run / "checkpoints").glob("nimg-*")):
        assert time.monotonic() < end, f"no checkpoint of image {nimg}"
        time.sleep(0.05)


def saved(run: Path) -> int:
    return max(int(p.name[5:]) for p in (run / "checkpoints").glob("nimg-*"))


def rank(job: str, number: int) -> int:
    """The process of a rank of a job."""
    marks = {f"SLURM_JOB_ID={job}".encode(), f"SLURM_PROCID={number}".encode()}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = (process / "environ").read_bytes().split(b"\0")
            started_as = (process / "cmdline").read_bytes().split(b"\0")
            in_step = any(w.startswith(b"SLURM_STEP_ID=") for w in told)
            if in_step and marks <= set(told) and b"train" in started_as[:3]:
                return int(process.name)
    raise AssertionError(f"job {job} has no rank {number}")


def same(run: Path, other: Path) -> bool:
    mine, theirs = weights(run), weights(other)
    return mine.keys() == theirs.keys() and all(mine[k].equal(theirs[k]) for k in mine)


def test_preempted_requeued_killed_and_resumed_it_is_the_same_bit_for_bit(
    cluster: Cluster, words: list[str], straight: Path, tmp_path: Path
):
    run = tmp_path / "run"
    job = start(cluster, tmp_path, words)
    wait_until_saved(run, 16)
    with cluster.preempting() as urgent:
        cluster.wait(urgent, "RUNNING")
        cluster.wait(job, "PENDING")
    assert "SIGTERM came, and the run is saved; waiting for the queue" in cluster.log(job)
    first = saved(run)
    assert 16 <= first < 240

    cluster.start_now(job)
    wait_until_saved(run, first + 16)
    assert f"going on at image {first}" in cluster.log(job)
    cluster.signal(job, "USR1")  # the time is nearly over
    cluster.wait(job, "PENDING")
    assert f"SIGUSR1 came, and the run is saved; job {job} is requeued" in cluster.log(job)
    second = saved(run)

    cluster.start_now(job)
    wait_until_saved(run, second + 16)
    began = time.monotonic()
    os.kill(rank(job, 1), signal.SIGKILL)
    cluster.wait(job, "FAILED")
    assert time.monotonic() - began < 30
    assert re.search(r"task 1: Killed|rank 1.*has gone without a word", cluster.log(job))
    assert cluster.show(job)[0]["Restarts"] == "2"

    again = start(cluster, tmp_path, words)
    cluster.wait(again)
    assert saved(run) == 240
    assert same(run, straight)


def test_on_one_node_and_on_the_other_engine_it_goes_on_alike(
    cluster: Cluster, words: list[str], straight: Path, tmp_path: Path
):
    run = tmp_path / "run"
    job = start(cluster, tmp_path, words)
    wait_until_saved(run, 80)
    cluster.cancel(job)
    cluster.wait(job, "CANCELLED")
    elsewhere = ["engine=torch"] if any("deepspeed" in w for w in words) else []
    for where, options, more in (("one", ONE_NODE, []), ("other", TWO_NODES, elsewhere)):
        folder = tmp_path / where
        shutil.copytree(run, folder / "run")
        job = start(cluster, folder, [*words, *more], options)
        cluster.wait(job)
        assert "going on at image" in cluster.log(job)
        assert apart(folder / "run", straight) < 1e-4
        assert_goes_on_alike(folder / "run", straight)
