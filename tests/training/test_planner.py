"""Which setting is chosen, what a refusal says, and how much memory there is."""

import logging
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.conftest import AUTOENCODER, data_words, verb
from vol3d.data.fake import FakeImages, largest_shape
from vol3d.errors import ConfigError
from vol3d.training import memory_check
from vol3d.training.cost_estimate import Cost, Work
from vol3d.training.device_memory import (
    GIB,
    available_memory,
    free_in_cgroups,
    free_memory,
    need_of,
)
from vol3d.training.planner import Planner, changed, fake_data, smaller_passes
from vol3d.training.throughput import NOMINAL, Throughput, measure
from vol3d.verbs.plan import Plan
from vol3d.verbs.train import Train

WORDS = ["data.kind=bids", "data.path=none", "batch=4"]
PLAIN = ["task.adversarial.weight=0", "task.perceptual_weight=0", "task.model.num_res_blocks=1"]
PLAIN += ["task.model.channels=[16,32]", "task.patch=[32,32,32]"]  # estimated in no time
CONFIG = "configs/ixi2mm/autoencoder.yaml"


ROWS: dict = {}


def planner(free: float, *words: str) -> Planner:
    training = Plan.read(CONFIG, [*WORDS, "precision=bf16", *PLAIN, *words])
    p = Planner(training, FakeImages((40, 56, 40)), torch.device("cpu"), free, NOMINAL)
    p.rows = ROWS.setdefault(words, {})  # what a setting costs does not depend on the room
    return p


def test_levers_are_those_that_the_settings_have():
    keys = [lever.key for lever in planner(1, "task.patch=null").levers]
    assert keys[:2] == ["micro_batch", "task.model.checkpointing"]
    assert keys[-1] == "task.patch"
    assert "precision" not in keys  # it is bf16 already
    without = planner(1, "task.model.checkpointing=true", "batch=1")
    assert not {"micro_batch", "task.model.checkpointing"} & {x.key for x in without.levers}


def test_passes_divide_the_batch():
    training = Plan.read(CONFIG, [*WORDS, "batch=12", "micro_batch=6"])
    assert smaller_passes(training) == [4, 3, 2, 1]


def test_settings_are_changed_by_their_names():
    training = changed(Plan.read(CONFIG, WORDS), {"task.patch": [64, 64, 64], "micro_batch": 2})
    assert (training.task.patch.size, training.micro_batch) == ((64, 64, 64), 2)
    assert training.task.model == Plan.read(CONFIG, WORDS).task.model


def test_what_fits_as_it_is_stays_as_it_is():
    p = planner(100 * GIB)
    assert p.cheapest(p.plan()).told == ""


def test_the_fastest_that_fits_is_chosen_and_nothing_that_changes_the_model():
    everything = planner(1)
    rows = {row.told: row for row in everything.singles()}
    assert all(row.cost.peak < rows[""].cost.peak for told, row in rows.items() if told)
    limit = need_of(rows["micro_batch=2"].cost, "cpu") + 1
    p = planner(limit)
    assert p.cheapest(p.plan()).told == "micro_batch=2"


@pytest.mark.slow
def test_levers_go_together_where_one_is_not_enough():
    everything = planner(1, "task.model.channels=[64,64]")
    both = everything.estimate_cost({"micro_batch": 1, "task.model.checkpointing": True})
    ones = everything.estimate_cost({"micro_batch": 1})
    free = (need_of(both.cost, "cpu") + need_of(ones.cost, "cpu")) / 2
    p = planner(free, "task.model.channels=[64,64]")
    best = p.cheapest(p.plan())
    assert best.words == {"micro_batch": 1, "task.model.checkpointing": True}


def test_nothing_fits():
    p = planner(1)
    assert p.cheapest(p.plan()) is None


def test_a_second_is_the_longer_of_computing_and_moving():
    work = Counter({Work(torch.float32, 100, 10): 2, Work(torch.bfloat16, 0, 30): 1})
    cost = Cost(step=1, validation=1, lasting=1, largest=1, work=work)
    assert Throughput(half=1, single=10, moved=10, call=0.5).seconds(cost) == 2 * 10 + 3


def test_this_machine_has_a_pace():
    rates = measure(torch.device("cpu"))
    assert rates.single > 1e8
    assert rates.moved > 1e8
    assert rates.call < 1e-3


# -- the shape of the data ------------------------------------------------------------------------


def test_the_shape_comes_from_the_grid_the_header_or_the_words(cohort: Path):
    named = Train.read(CONFIG, [*WORDS, "data.grid=[1mm,2mm]"])
    assert largest_shape(named.data) == (160, 224, 160)
    there = Train.read(
        CONFIG, ["data.kind=bids", f"data.path={cohort}", "data.entities.desc=brain"]
    )
    assert largest_shape(there.data) == (40, 56, 40)
    with pytest.raises(ConfigError, match="no such folder"):
        fake_data(Train.read(CONFIG, WORDS))
    with pytest.raises(ConfigError, match=r"shape=\[4, 4\]: \[x,y,z\] of a scan is due"):
        fake_data(named, (4, 4))


# -- the refusal ----------------------------------------------------------------------------------


def test_a_training_without_room_is_refused_with_the_remedy(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
):
    words = [f"run={tmp_path / 'r'}", *data_words(cohort), *AUTOENCODER, "total_nimg=2"]
    words += ["task.perceptual_weight=0", "task.patch=[32,32,32]", "check_memory=true"]
    words += ["task.model={kind: kl, channels: [8], patch: 2}"]
    monkeypatch.setattr(memory_check, "free_memory", lambda device: 0.3 * GIB)
    with pytest.raises(ConfigError) as refused:
        verb("train", *words)
    assert "GiB of memory, and the cpu has 0.30 GiB free" in str(refused.value)
    assert "nothing that vol3d knows makes it fit" in str(refused.value)
    assert not (tmp_path / "r").exists()

    p = Planner(Train.read(None, words), FakeImages((40, 56, 40)), torch.device("cpu"), 1, NOMINAL)
    one, two = (need_of(p.estimate_cost(w).cost, "cpu") for w in ({"micro_batch": 1}, {}))
    monkeypatch.setattr(memory_check, "free_memory", lambda device: (one + two) / 2)
    remedy = r"(micro_batch=1|task.model.checkpointing=true) \(0.\d\d GiB\)"
    with pytest.raises(ConfigError, match=f"free; add {remedy}, or check_memory=false"):
        verb("train", *words)
    verb("train", *words, "check_memory=false")
    assert (tmp_path / "r" / "bundle").is_dir()


def test_what_cannot_be_told_is_not_checked(cohort: Path, tmp_path: Path, monkeypatch, caplog):
    words = [*data_words(cohort), *AUTOENCODER, "total_nimg=2", "check_memory=true"]
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(memory_check, "free_memory", lambda device: None)
    verb("train", f"run={tmp_path / 'a'}", *words)
    assert "memory: not checked, because this system" in caplog.text

    def fail(*_):
        raise RuntimeError("no fake kernel")

    monkeypatch.setattr(memory_check, "free_memory", lambda device: 1.0)
    monkeypatch.setattr("vol3d.training.planner.estimate_cost", fail)
    verb("train", f"run={tmp_path / 'b'}", *words)
    assert "cannot be estimated (RuntimeError: no fake kernel)" in caplog.text


# -- the room -------------------------------------------------------------------------------------


def test_the_room_on_the_cpu_is_that_of_the_system_or_less():
    room, whole = free_memory(torch.device("cpu")), available_memory(Path("/proc/meminfo"))
    assert 1e6 < room < 1.1 * whole  # others take and give back in between
    assert available_memory(Path("/nowhere")) is None


def group(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_limits_of_control_groups_are_found(tmp_path: Path):
    told = tmp_path / "cgroup"
    stat = "anon 5\ninactive_file 100\ntotal_inactive_file 300\n"
    told.write_text("0::/jobs/one\n")
    group(tmp_path / "jobs" / "one", {"memory.max": "max\n"})
    limited = {"memory.max": "5000", "memory.current": "2000", "memory.stat": stat}
    group(tmp_path / "jobs", limited)
    assert free_in_cgroups(told, tmp_path) == [3100.0]

    told.write_text("9:name=systemd:/\n4:memory:/job\n")
    old = {"memory.limit_in_bytes": "9000", "memory.usage_in_bytes": "1000", "memory.stat": stat}
    group(tmp_path / "memory" / "job", old)
    assert free_in_cgroups(told, tmp_path) == [8300.0]
    assert free_in_cgroups(tmp_path / "none", tmp_path) == []
