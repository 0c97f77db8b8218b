"""The benchmark runs, compares like with like, and notices a wrong answer."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from benchmarks import measure, race, run, table
from vol3d.nn.precision import resolve

CPU = torch.device("cpu")
ROUNDED = {"bf16": 0.03, "fp32": 1e-4}[resolve("auto", CPU)]
"""How far rounding alone may move an output or a gradient here: bf16 has 8 bits, float32 has 24."""


def entered(case: str) -> dict:
    return {w: race.enter(w, case, "small", CPU) for w in ("shipped", "tuned", case)}


@pytest.mark.parametrize("case", ["unet", "encode", "train-fast", "train-lean"])
def test_all_contestants_compute_the_same(case: str):
    off = race.distances(entered(case))
    assert set(off) == {"tuned", case}
    theirs, ours = off["tuned"], off[case]
    assert all(d < ROUNDED for d in theirs.values())
    assert all(0 < d < ROUNDED for d in ours.values())  # 0 would be MONAI compared with itself
    assert all(d < 2 * theirs[what] + 1e-5 for what, d in ours.items())


def test_a_wrong_weight_shows():
    contestants = entered("train-fast")
    with torch.no_grad():
        contestants["train-fast"].net.last_layer.weight[0, 0].neg_()
    off = race.distances(contestants)
    assert all(d < ROUNDED for d in off["tuned"].values())
    assert all(d > 10 * ROUNDED for d in off["train-fast"].values())


def test_the_work_is_counted_without_doing_it():
    """Of the last convolution alone: 2 x 27 x channels in x voxels out."""
    assert race.flop("decode", "full") > 2 * 27 * 64 * 160 * 224 * 160
    assert race.flop("train-lean", "full") == race.flop("train-fast", "full")


def here(what: str, **asked) -> dict:
    """Ask in this process, which takes no time to start; its peaks mean nothing."""
    return json.loads(json.dumps(measure.WHAT[what]({"size": "small", **asked}, CPU)))


def test_a_process_of_its_own_measures_memory():
    told = run.Asker("cpu", "small")("memory", case="decode", who="shipped")
    volume = 32**3 * 4 / 2**30
    assert 16 * volume < told["peak_gib"] < 1  # at least the 16 channels of the last level


def test_a_race_from_figures_to_page(tmp_path: Path):
    names = ["train-fast", "train-lean"]
    gib = {"shipped": 4.0, "tuned": 2.0, "train-fast": 1.0, "train-lean": 0.5}
    told = here("times", case=names[0], who=list(gib))
    cases = [run.result(name, gib, told) for name in names]
    for case, w in itertools.product(cases, ("shipped", "tuned")):
        assert case[f"time_ratio_{w}"] == case["seconds"][w] / case["seconds"]["vol3d"]
        assert case[f"memory_ratio_{w}"] == case["peak_gib"]["vol3d"] / case["peak_gib"][w]
    assert cases[0]["seconds"]["tuned"] == cases[1]["seconds"]["tuned"]  # one race, two settings

    found = {"made": "2000-01-01", "size": "small", **here("describe"), "cases": cases}
    printed, page = table.tables(found), tmp_path / "page.md"
    assert "| train-lean: the same in the least memory |" in printed
    page.write_text("# Before\n")
    for text in ("old", printed):
        table.put(page, "cpu-test.json", text)
    assert page.read_text() == f"# Before\n\n<!-- cpu-test.json -->\n{printed}\n<!-- end -->\n"


def test_what_does_not_fit_is_left_out():
    told = {"seconds": {"tuned": [4.0], "decode": [2.0]}, "distance": {}, "tflop": 8.0}
    case = run.result("decode", {"tuned": 3.0, "decode": 1.5}, told)
    assert case["time_ratio_tuned"] == 2
    assert case["memory_ratio_tuned"] == 0.5
    assert case["time_ratio_shipped"] is None
    assert "| – | 3 GiB | 1.5 GiB | – | 0.5× |" in table.memory([case])


def test_a_whole_training_step():
    told = run.whole(here, "train-whole")
    assert told["seconds"]["vol3d"] > 0
    assert told["dropped_updates"] == 0
    assert "(limit 12)" in table.ours_alone([told])


def test_a_whole_sample():
    told = run.whole(here, "sample")
    assert (told["network_calls"], told["network_calls_guided"]) == (20, 40)
    assert "guided, 40 network calls" in table.ours_alone([told])
