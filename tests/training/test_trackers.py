"""A run in TensorBoard and in a real, local MLflow store."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import AUTOENCODER, data_words, read_log, verb, vol3d
from vol3d.errors import ConfigError
from vol3d.training.log import RunLog
from vol3d.training.tracker import Track

SHORT = ["total_nimg=8", "log_every=2", "save_every=2", "preview_every=8", "trackers.mine=mlflow"]


def store(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


@pytest.fixture(scope="module")
def followed(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("followed") / "ae"
    verb("train", f"run={run}", *data_words(cohort), *AUTOENCODER, *SHORT)
    return run


def test_settings_curves_previews_and_the_bundle_are_in_the_store(followed: Path):
    client = store(followed.parent)
    (experiment,) = [e for e in client.search_experiments() if e.name == "vol3d"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "ae"
    assert run.data.params["task.model.kind"] == "kl"
    assert run.data.params["total_nimg"] == "8"
    written = [r for r in read_log(followed) if r["event"] == "train"]
    curve = client.get_metric_history(run.info.run_id, "train/l1")
    assert [(m.step, m.value) for m in curve] == [(r["nimg"], r["l1"]) for r in written]
    assert "validation/psnr_brain_db" in run.data.metrics
    names = {f.path for f in client.list_artifacts(run.info.run_id, "bundle")}
    assert "bundle/model.safetensors" in names
    assert client.list_artifacts(run.info.run_id, "previews")
    kept = client.download_artifacts(run.info.run_id, "bundle/checksums.json")
    assert Path(kept).read_bytes() == (followed / "bundle" / "checksums.json").read_bytes()


def test_tensorboard_has_the_same_curve(followed: Path):
    board = EventAccumulator(str(followed / "tensorboard")).Reload()
    assert [s.step for s in board.Scalars("train/l1")] == [2, 4, 6, 8]
    assert board.Tags()["images"] == ["preview"]


def test_a_finished_run_is_not_tracked_again(followed: Path, cohort: Path):
    verb("train", f"run={followed}", *data_words(cohort), *AUTOENCODER, *SHORT)
    client = store(followed.parent)
    assert len(client.search_runs([e.experiment_id for e in client.search_experiments()])) == 1


@pytest.mark.slow
def test_a_killed_run_goes_on_as_the_same_one(cohort: Path, tmp_path: Path):
    words = [f"run={tmp_path / 'ae'}", *data_words(cohort), *AUTOENCODER, *SHORT]
    words[words.index("total_nimg=8")] = "total_nimg=400"
    process = subprocess.Popen(
        [sys.executable, "-m", "vol3d", "train", *words], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 90
    while not list((tmp_path / "ae").glob("checkpoints/nimg-*4")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    first = json.loads((tmp_path / "ae" / "mlflow.json").read_text())["run_id"]
    assert store(tmp_path).get_run(first).info.status == "RUNNING"
    result = vol3d("train", *words)
    assert result.returncode == 0, result.stderr
    client = store(tmp_path)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert (run.info.run_id, run.info.status) == (first, "FINISHED")
    steps = {m.step for m in client.get_metric_history(first, "train/l1")}
    assert steps == set(range(2, 401, 2))


def test_a_store_that_is_not_there(cohort: Path, tmp_path: Path):
    words = [*data_words(cohort), *AUTOENCODER, *SHORT]
    with pytest.raises(ConfigError, match="MLflow cannot use nowhere://x"):
        verb(
            "train",
            f"run={tmp_path / 'a'}",
            *words,
            "trackers.mine.uri=nowhere://x",
        )


class Broken(Track):
    """A tracker whose server has gone."""

    def numbers(self, nimg, values):
        raise ConnectionError("no route to host")

    def picture(self, nimg, path):
        raise ConnectionError("no route to host")


def test_a_tracker_that_fails_does_not_stop_the_run(tmp_path: Path, caplog):
    report = RunLog(tmp_path, 0, [Broken()])
    with caplog.at_level(logging.WARNING):
        report.write(4, "train", l1=0.5)
    assert "Broken: no route to host; the run goes on" in caplog.text
    assert read_log(tmp_path) == [{"nimg": 4, "event": "train", "l1": 0.5}]
