"""Two jobs at once: real processes, really killed, and what the second one is told."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import DIFFUSION, data_words, verb, vol3d
from vol3d.errors import ConfigError
from vol3d.io import lock
from vol3d.io.lock import at_work

WORK = """
import sys
from pathlib import Path
from vol3d.io.lock import at_work
with at_work(Path(sys.argv[1]), sys.argv[2], sys.argv[3]):
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start():
    """Starts processes that work in a folder until they are told to end, by closing their stdin."""
    started = []

    def begin(folder: Path, plan: str, shard: str = "1/1", **env: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", WORK, str(folder), plan, shard],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )
        started.append(process)
        assert process.stdout.readline() == "in\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_another_plan_or_the_same_part_is_refused_by_name(start, tmp_path: Path):
    out = tmp_path / "a" / "out"
    first, second = start(out, "a", "1/2", SLURM_JOB_ID="17"), start(out, "a", "2/2")
    for plan, shard in (("a", "1/2"), ("b", "1/2"), ("a", "1/1"), ("a", "1/3")):
        with (
            pytest.raises(ConfigError, match="shard 1/2 here; wait") as error,
            at_work(out, plan, shard),
        ):
            pass
        assert f"process {first.pid} on {os.uname().nodename}, Slurm job 17" in str(error.value)
    first.communicate()
    with at_work(out, "a", "1/2"):
        second.communicate()
    assert list(out.iterdir()) == []
    with at_work(tmp_path / "b" / "c", "a"):
        pass
    assert not (tmp_path / "b").exists()  # it was made for nothing


def test_a_killed_process_leaves_the_folder_free(start, tmp_path: Path):
    killed = start(tmp_path, "a")
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert list(tmp_path.glob(".vol3d-lock*"))  # and yet nobody is in the way
    with at_work(tmp_path, "b"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_job_that_is_called_back_waits_for_its_former_self(
    start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    former = start(tmp_path, "a", SLURM_JOB_ID="17")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with pytest.raises(ConfigError, match="wait for it or stop it"), at_work(tmp_path, "a"):
        pass  # a second step of the same job is no restart of it
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setattr(lock, "LOOK_AGAIN_S", 0.01)
    monkeypatch.setattr(lock.time, "sleep", lambda _: former.kill())
    with at_work(tmp_path, "a"):
        pass
    assert f"waiting for process {former.pid}" in caplog.text


def test_what_cannot_be_locked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/out")):
        with pytest.raises(ConfigError, match=r"cannot be written \(.*\); name"), at_work(folder):
            pass
    mounts = "server:/a / nfs4 rw,relatime,vers=4.2,local_lock=none 0 0\n"
    for options, warned in ((mounts, False), (mounts.replace("none", "all"), True)):
        caplog.clear()
        monkeypatch.setattr(lock.Path, "read_text", lambda _, text=options: text)
        with at_work(tmp_path / "out"):
            assert ("keeps locks to this machine" in caplog.text) == warned


def test_a_second_training_ends_with_one_line(latents: Path, tmp_path: Path, start):
    run = tmp_path / "run"
    words = [f"run={run}", "data.kind=latents", f"data.path={latents}", *DIFFUSION]
    first = start(run, "a")
    done = vol3d("train", *words, "total_nimg=4")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"vol3d: {run}: process {first.pid} on ")
    assert [p.name[:11] for p in run.iterdir()] == [".vol3d-lock"] * 2
    first.communicate()
    verb("train", *words, "total_nimg=4")
    assert json.loads((run / "log.jsonl").read_text().splitlines()[0])["nimg"] == 0
    assert not list(run.glob(".*"))


def test_the_verbs_that_fill_a_folder_take_it(
    diffusion: Path, autoencoder: Path, cohort: Path, tmp_path: Path, start
):
    start(tmp_path, "a", "1/2")
    for name, *words in (
        ("generate", diffusion, tmp_path, "n=1"),
        ("encode", autoencoder, tmp_path, *data_words(cohort)),
        ("prepare", cohort, tmp_path, "entities={desc: brain}", "shard=2/2"),
        ("evaluate", tmp_path, f"generator={diffusion}", *data_words(cohort)),
        ("sample-cohort", tmp_path),
    ):
        with pytest.raises(ConfigError, match="is at work on shard 1/2 here"):
            verb(name, *map(str, words))
