"""Updates that are not finite never reach the weights, and are told."""

import copy
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vol3d.errors import ConfigError, RunError
from vol3d.nn.optim import Optim
from vol3d.training.checkpoint import Checkpoints, Stored
from vol3d.training.ema import Ema
from vol3d.training.engine import Engine, device_of


@pytest.fixture
def engine() -> Engine:
    torch.manual_seed(0)
    return Engine(
        {"model": nn.Linear(3, 1)},
        {"model": Optim(lr=0.1, warmup=0)},
        averaged=["model"],
        ema_halflife=4,
        device=torch.device("cpu"),
        precision="fp32",
    )


def update(engine: Engine, nimg: int, poison: float = 1.0, where: str = "loss") -> None:
    x = torch.tensor([[1.0, 2.0, 3.0]])
    y = engine.nets["model"](x).sum()
    if where == "gradient":
        y.register_hook(lambda g, factor=poison: g * factor)
        poison = 1.0
    engine.backward("model", {"good": y.square(), "bad": 0.1 * y * poison}, 1.0)
    engine.step(share=0.0, nimg=nimg, names=["sub-01", "sub-02"])


def state(engine: Engine) -> dict:
    return copy.deepcopy({k: v.clone() for k, v in engine.tensors().items()})


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_an_update_that_is_not_finite_changes_nothing(engine: Engine, value: float, where: str):
    update(engine, 0)
    before = state(engine)
    update(engine, 2, value, where)
    after = state(engine)
    assert all(torch.equal(before[k], after[k]) for k in before)
    (dropped,) = engine.watch.read()
    assert (dropped.nimg, dropped.part, dropped.names) == (2, "model", ["sub-01", "sub-02"])
    assert dropped.terms == (["bad", "gradient"] if where == "loss" else ["gradient"])
    update(engine, 4)
    assert not all(torch.equal(before[k], v) for k, v in state(engine).items())


def test_three_in_a_row_stop_the_run_and_name_what_and_who(engine: Engine):
    for nimg in (0, 2):
        update(engine, nimg, math.nan)
    update(engine, 4)
    update(engine, 6, math.nan)
    assert len(engine.watch.read()) == 3  # two, a good one, one: no three in a row
    update(engine, 8, math.nan)
    update(engine, 10, math.nan)
    with pytest.raises(
        RunError, match=r"three updates of the model in a row.*image 10 in bad.*sub-01"
    ):
        engine.watch.read()


def test_counting_goes_on_over_reports(engine: Engine):
    for nimg in (0, 2):
        update(engine, nimg, math.nan)
        engine.watch.read()
    update(engine, 4, math.nan)
    with pytest.raises(RunError):
        engine.watch.read()


def test_state_goes_out_and_in_exactly(engine: Engine, tmp_path: Path):
    update(engine, 0)
    save_file(state(engine), tmp_path / "saved.safetensors")
    update(engine, 2)
    expected = state(engine)
    engine.restore(Stored(tmp_path / "saved.safetensors"))
    update(engine, 2)
    assert all(torch.equal(expected[k], v) for k, v in state(engine).items())


def test_average_follows_its_half_life():
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    ema = Ema(net, halflife=100)
    nn.init.ones_(net.weight)
    for nimg in range(10_010, 10_110, 10):
        ema.update(net, nimg, 10)
    assert ema.net.weight.item() == pytest.approx(0.5)


def test_learning_rate_rises_and_falls():
    optim = Optim(lr=2.0, warmup=0.1)
    assert optim.rate(0.0) == pytest.approx(0, abs=1e-6)
    assert optim.rate(0.05) == pytest.approx(0.5 * 2 * (0.5 + 0.5 * math.cos(math.pi * 0.05)))
    assert optim.rate(0.5) == pytest.approx(1.0)
    assert optim.rate(1.0) == 0


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path, monkeypatch: pytest.MonkeyPatch):
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    checkpoints.write(4, {"a": torch.ones(3)}, {"seconds": 1.0})

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        checkpoints.write(8, {"a": torch.zeros(3)}, {"seconds": 2.0})
    monkeypatch.undo()
    newest = checkpoints.newest()
    assert json.loads((newest / "state.json").read_text()) == {"nimg": 4, "seconds": 1.0}
    assert torch.equal(Stored(newest / "tensors.safetensors")["a"], torch.ones(3))
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["nimg-0000000004"]


def test_a_file_too_large_for_the_disk_is_one_clear_line(tmp_path):
    """The library that writes weights has an error of its own for it: a limit on file sizes, for real."""
    script = """if True:
        import resource, signal, sys, torch
        from pathlib import Path
        from vol3d.errors import RunError
        from vol3d.training.checkpoint import Checkpoints, Stored
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        try:
            Checkpoints(Path(sys.argv[1]), 2).write(4, {"a": torch.ones(1_000_000)}, {})
        except RunError as error:
            print("told:", error)
    """
    folder = tmp_path / "c"
    ran = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True
    )
    assert ran.stdout.startswith("told:"), ran.stderr
    assert "the checkpoint could not be written" in ran.stdout
    assert list(folder.iterdir()) == []


def test_a_damaged_checkpoint_does_not_push_out_a_whole_one(tmp_path):
    for nimg in (4, 8):
        Checkpoints(tmp_path, keep=2).write(nimg, {"a": torch.ones(1)}, {})
    (tmp_path / "nimg-0000000008" / "state.json").write_text("torn")
    Checkpoints(tmp_path, keep=1).write(5, {"a": torch.ones(1)}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["nimg-0000000005"]


def test_a_device_that_is_none():
    with pytest.raises(ConfigError, match="device=gpu: auto, cpu, cuda or cuda:1 is due"):
        device_of("gpu")
