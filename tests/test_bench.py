"""The benchmark runs, compares like with like, and notices a wrong answer."""

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import machine, measure, race, run, table
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


def here(what: str, **asked) -> Iterator[dict]:
    """Ask in this process, which takes no time to start; its peaks mean nothing."""
    for told in measure.WHAT[what]({"size": "small", **asked}, CPU):
        yield json.loads(json.dumps(told))


def test_a_process_of_its_own_measures_memory():
    told = run.last(run.Asker("cpu", "small")("memory", case="decode", who="shipped"))
    volume = 32**3 * 4 / 2**30
    assert 16 * volume < told["peak_gib"]["shipped"] < 1  # the 16 channels of the last level


def test_a_race_from_figures_to_page(tmp_path: Path):
    names = ["train-fast", "train-lean"]
    gib = {"shipped": 4.0, "tuned": 2.0, "train-fast": 1.0, "train-lean": 0.5}
    told = run.last(here("times", case=names[0], who=list(gib)))
    cases = [run.result(name, gib, told) for name in names]
    for case, w in itertools.product(cases, ("shipped", "tuned")):
        assert case[f"time_ratio_{w}"] == case["seconds"][w] / case["seconds"]["vol3d"]
        assert case[f"memory_ratio_{w}"] == case["peak_gib"]["vol3d"] / case["peak_gib"][w]
    assert cases[0]["seconds"]["tuned"] == cases[1]["seconds"]["tuned"]  # one race, two settings

    found = {"made": "2000-01-01", "size": "small", "cases": cases}
    found |= run.last(here("describe"))
    printed, page = table.tables(found), tmp_path / "page.md"
    assert "| train-lean: the same in the least memory |" in printed
    page.write_text("# Before\n")
    for text in ("old", printed):
        table.put(page, "cpu-test.json", text)
    assert page.read_text() == f"# Before\n\n<!-- cpu-test.json -->\n{printed}\n<!-- end -->\n"


def interrupted(after: int, error: type[Exception]) -> run.Ask:
    """Asks here, until so many answers have come in all."""
    left = [after]

    def ask(what: str, **more) -> Iterator[dict]:
        for told in here(what, **more):
            if left[0] == 0:
                raise error
            left[0] -= 1
            yield told

    return ask


@pytest.mark.parametrize("error", [run.TimeIsUpError, KeyboardInterrupt])
def test_a_run_that_is_cut_off_keeps_what_it_has(error: type, tmp_path: Path):
    """After the machine (2 answers) come four peaks and a turn of four; then another race."""
    file, names = tmp_path / "figures.json", ["train-fast", "train-lean", "encode"]
    # Given back at once: a process that is at its own peak already would measure one of 0.
    len(b"x" * 2**28)
    with contextlib.suppress(KeyboardInterrupt):
        run.run(interrupted(2 + 4 + 4, error), "cpu", "small", names, file)
    kept = json.loads(file.read_text())
    assert [c["name"] for c in kept["cases"]] == ["train-fast", "train-lean"]
    assert kept["unfinished"] == names
    assert kept["machine"]["class"].startswith("cpu")
    for case in kept["cases"]:
        assert all(case["peak_gib"].values())
        assert all(len(seconds) == 1 for seconds in case["all_seconds"].values())
    assert "Cut off before all turns were done: train-fast" in table.tables(kept)


def test_a_process_that_measures_ends_with_the_run():
    ask = run.Asker("cpu", "small", minutes=5)("describe")
    assert "machine" in next(ask)
    ask.close()  # as on a signal
    over = run.Asker("cpu", "small", 0)
    with pytest.raises(run.TimeIsUpError):
        next(over("describe"))


def test_on_a_gpu_one_process_tells_peaks_and_times():
    """Here on the CPU, where such peaks mean nothing."""
    (case,) = run.last(run.race(here, ["encode"], "cuda"))
    assert set(case["peak_gib"]) == {"shipped", "tuned", "vol3d"}
    assert all(seconds > 0 for seconds in case["seconds"].values())
    assert case["time_ratio_shipped"] > 0


def test_a_setting_slower_than_monai_is_told():
    told = {"seconds": {"shipped": [2.0], "tuned": [3.0], "decode": [2.5]}, "tflop": 8.0}
    gib = {"shipped": 4.0, "tuned": 1.0, "decode": 2.0}
    slow = run.result("decode", gib, told)
    quick = run.result("encode", {}, {"seconds": {"shipped": [2.0], "encode": [1.0]}})
    assert table.slower([slow, quick]) == ["decode"]
    assert table.verdict([slow, quick]) == "**Slower than MONAI as shipped: decode.**"
    assert "none of the 1 settings" in table.verdict([quick])
    assert slow["better"] == "shipped"  # of the two; its memory counts, though the other's is less
    assert "| 0.8× | 0.8× |" in table.times([slow])
    assert "| 0.5× | 0.5× |" in table.memory([slow])


@pytest.mark.parametrize(
    ("flags", "cap", "called"),
    [
        ("avx2 avx512f avx512_bf16 amx_bf16", "", "cpu-amx"),
        ("avx2 avx512f avx512_bf16 amx_bf16", "AVX512_CORE_BF16", "cpu-avx512-bf16"),
        ("avx2 avx512f avx512_bf16 amx_bf16", "AVX512_CORE", "cpu-avx512"),
        ("avx2 avx512f avx512_bf16 amx_bf16", "AVX2", "cpu-avx2"),
        ("avx2", "", "cpu-avx2"),
        ("asimd", "", "cpu"),
    ],
)
def test_machines_have_a_class(flags: str, cap: str, called: str):
    assert machine.class_of(CPU, set(flags.split()), cap) == called
    told = {"machine": {"class": called, "cpu": "AMD EPYC(TM) 7", "cores": 2}}
    assert run.place(told).name == f"{called}-amd-epyc-7-2-cores.json"


def test_sizes_of_slabs_are_tried():
    case = run.last(run.slabs(here))[0]
    assert {name: len(found) for name, found in case["slabs"].items()} == {"decode": 6, "train": 6}
    assert f"| train | {case['usual_mib']:g} MiB, the usual |" in table.slabs(case)


def test_what_does_not_fit_is_left_out():
    told = {"seconds": {"tuned": [4.0], "decode": [2.0]}, "distance": {}, "tflop": 8.0}
    case = run.result("decode", {"tuned": 3.0, "decode": 1.5}, told)
    assert case["time_ratio_tuned"] == 2
    assert case["memory_ratio_tuned"] == 0.5
    assert case["time_ratio_shipped"] is None
    assert "| – | 3 GiB | 1.5 GiB | – | 0.5× |" in table.memory([case])


def test_a_whole_training_step():
    (told,) = run.last(run.whole(here, "train-whole"))
    assert told["seconds"]["vol3d"] > 0
    assert told["dropped_updates"] == 0
    assert "(limit 12)" in table.ours_alone([told])


def test_a_whole_sample():
    (told,) = run.last(run.whole(here, "sample"))
    assert (told["network_calls"], told["network_calls_guided"]) == (20, 40)
    assert "guided, 40 network calls" in table.ours_alone([told])
