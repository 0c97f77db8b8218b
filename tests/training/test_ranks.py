"""On any number of processes and on every engine, a run is the same run."""

import json
import logging
import math
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.conftest import AUTOENCODER, DIFFUSION, data_words, read_log, torchrun, verb
from vol3d.distributed.ranks import Ranks, first_node, launched, meeting_place, tasks_per_node
from vol3d.errors import ConfigError

pytestmark = pytest.mark.timeout(900)  # many processes on few cores
OFTEN = ["total_nimg=32", "log_every=4", "save_every=8", "preview_every=80", "batch=4"]
QUIET = ["trackers={tensorboard: null}"]
GAN = [
    "task.adversarial={weight: 0.1, start_nimg: 8, warmup_nimg: 8}",
    "task.adversarial.model={channels: 4, layers: 2}",
    "task.adversarial.optim.lr=1e-4",
    "task.patch=[24,24,24]",
    # One channel a group would leave the biases before a norm without a gradient but for its rounding.
    "task.model.norm_groups=2",
]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def losses(run: Path) -> list[dict[str, float]]:
    """What each part minimises, update by update: the sum of its terms."""
    told = {"nimg", "event", "seconds", "waiting"}
    found = []
    for line in read_log(run):
        if line["event"] == "train":
            terms = {k: v for k, v in line.items() if k not in told}
            judged = {"discriminator": terms.pop("discriminator", 0.0)}
            found.append({"model": sum(terms.values()), **judged})
    return found


def assert_goes_on_alike(run: Path, other: Path) -> None:
    """The losses of every update are the same, to 1e-4."""
    mine, theirs = losses(run), losses(other)
    assert len(mine) == len(theirs) > 0
    for a, b in zip(mine, theirs, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-9), (run.name, other.name)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "bundle" / "model.safetensors")


def apart(run: Path, other: Path) -> float:
    """The relative L2 distance of two runs' weights."""
    mine, theirs = weights(run), weights(other)
    square = sum((mine[k] - theirs[k]).double().square().sum() for k in theirs)
    return math.sqrt(square / sum(t.double().square().sum() for t in theirs.values()))


def engine_of(name: str) -> str:
    """The word for an engine: torch, or zero1 to zero3."""
    is_zero = name.startswith("zero")
    return f"engine={{kind: deepspeed, stage: {name[4]}}}" if is_zero else f"engine={name}"


def in_turn(world: int, trainings: list[list[str]], folder: Path) -> subprocess.CompletedProcess:
    """Trainings, each by its words, in the same processes: most of their time goes into starting."""
    told = folder / f"trainings-{world}.json"
    told.write_text(json.dumps(trainings))
    done = torchrun(world, "-m", "tests.training.curves", told, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    return done


ENGINES = {
    "diffusion": ["torch", "zero1", "zero2", "zero3"],
    "autoencoder with discriminator": ["torch", "zero1", "zero2"],
    "wide diffusion": ["torch", "zero3-tight"],
}


@pytest.fixture(scope="module")
def curves(cohort: Path, latents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs STAGE/ENGINE-PROCESSES of every stage on its engines."""
    folder = tmp_path_factory.mktemp("curves")
    often = [*OFTEN, *QUIET, "save_every=80"]
    learnt = [*DIFFUSION, *often, "data.kind=latents", f"data.path={latents}"]
    learnt += ["micro_batch=1"]  # one, two and four passes an update
    wide = "task.model={channels: [64, 96], resblock_updown: true, checkpointing: true}"
    words = {
        "diffusion": [*learnt, "task.model.checkpointing=true"],
        "autoencoder with discriminator": [*data_words(cohort), *AUTOENCODER, *GAN, *often],
        "wide diffusion": [*learnt, wide, "total_nimg=16"],
    }
    for world in (1, 2, 4):
        stages = ["diffusion", "autoencoder with discriminator"]
        stages += ["wide diffusion"] * (world == 2)
        runs = [(stage, engine) for stage in stages for engine in ENGINES[stage]]
        trainings = [
            [f"run={folder / stage / f'{engine}-{world}'}", engine_of(engine), *words[stage]]
            for stage, engine in runs
        ]
        in_turn(world, trainings, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["diffusion", "autoencoder with discriminator"])
def test_curves_agree_on_every_engine_and_number_of_processes(stage: str, curves: Path):
    for world in (1, 2, 4):
        for engine in ENGINES[stage]:
            run, one = curves / stage / f"{engine}-{world}", curves / stage / "torch-1"
            assert_goes_on_alike(run, one)
            assert apart(run, one) < 1e-4


@pytest.mark.slow
def test_whole_weights_that_are_let_go_and_fetched_again(curves: Path):
    """Stage 3 keeps small weights whole, and as much of the others as fits a bucket."""
    runs = curves / "wide diffusion"
    assert_goes_on_alike(runs / "zero3-tight-2", runs / "torch-2")
    assert apart(runs / "zero3-tight-2", runs / "torch-2") < 1e-4


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ranks_of(world: int, words: list[str], **options) -> list[subprocess.Popen]:
    """`vol3d train` in so many processes, as srun starts them: nobody watches over them."""
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(world)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "vol3d", "train", *words],
            env={**ONE_THREAD, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        for rank in range(world)
    ]


def ends(processes: list[subprocess.Popen], within_s: float) -> list[tuple[int, str]]:
    """Exit code and stderr of each; an error where one is still there after that time."""
    deadline = time.monotonic() + within_s
    told = [p.communicate(timeout=max(0.1, deadline - time.monotonic()))[1] for p in processes]
    return [(p.returncode, text) for p, text in zip(processes, told, strict=True)]


def wait_for(run: Path, nimg: int) -> None:
    """Until the run has a checkpoint of that image or a later one."""
    deadline = time.monotonic() + 120
    while not any(int(p.name[5:]) >= nimg for p in (run / "checkpoints").glob("nimg-*")):
        assert time.monotonic() < deadline, "the run makes no checkpoints"
        time.sleep(0.02)


def words_of(latents: Path, run: Path, engine: str, *more: str) -> list[str]:
    words = ["data.kind=latents", f"data.path={latents}", *DIFFUSION, *OFTEN, *QUIET]
    return [f"run={run}", engine_of(engine), *words, "total_nimg=96", *more]


@pytest.fixture(scope="module")
def straight(latents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two processes with ZeRO 2 that nobody interrupts."""
    run = tmp_path_factory.mktemp("straight") / "run"
    done = torchrun(2, "-m", "vol3d", "train", *words_of(latents, run, "zero2"), env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{run}/bundle"], "said once"
    return run


@pytest.mark.slow
def test_a_signal_saves_and_any_engine_and_number_of_processes_goes_on(
    straight: Path, latents: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = tmp_path / "run"
    processes = ranks_of(2, words_of(latents, run, "zero2"))
    wait_for(run, 24)
    for _ in range(3):  # queues repeat themselves
        processes[1].send_signal(signal.SIGTERM)  # and may tell only one of the ranks
    (first, text), (second, silent) = ends(processes, within_s=60)
    assert first == second == 128 + signal.SIGTERM
    assert "SIGTERM came, and the run is saved; run again to go on" in text.splitlines()[-1]
    assert "SIGTERM" not in silent
    saved = sorted((run / "checkpoints").glob("nimg-*"))[-1]
    assert 24 <= int(saved.name[5:]) < 96

    others = {name: tmp_path / name for name in ("zero2", "torch", "zero1", "zero3")}
    words = {name: words_of(latents, other, name) for name, other in others.items()}
    for other in others.values():
        shutil.copytree(run, other)
    done = torchrun(2, "-m", "vol3d", "train", *words["zero2"], env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    assert "going on at image" in done.stderr
    with caplog.at_level(logging.INFO):
        verb("train", *words["torch"])
    assert "going on at image" in caplog.text
    done = in_turn(4, [words["zero1"], words["zero3"]], tmp_path)
    assert done.stderr.count("going on at image") == 2
    mine, theirs = weights(others["zero2"]), weights(straight)
    assert all(mine[k].equal(theirs[k]) for k in theirs), "bit for bit"
    for other in others.values():
        assert apart(other, straight) < 1e-4
        assert_goes_on_alike(other, straight)


@pytest.mark.slow
def test_weights_that_cannot_be_shared_out_evenly(latents: Path, tmp_path: Path):
    """On three processes most have a last share that is padded."""
    more = ["total_nimg=24", "batch=6", "save_every=6", "keep=9"]
    one, three = tmp_path / "one", tmp_path / "three"
    verb("train", *words_of(latents, one, "torch", *more))
    shutil.copytree(one, three)
    shutil.rmtree(three / "bundle")
    for late in ("nimg-0000000018", "nimg-0000000024"):
        shutil.rmtree(three / "checkpoints" / late)
    words = words_of(latents, three, "zero3", *more)
    done = torchrun(3, "-m", "vol3d", "train", *words, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    assert "going on at image 12" in done.stderr
    assert apart(three, one) < 1e-4


@pytest.mark.slow
def test_what_fails_on_one_rank_is_told_under_a_launcher_too(latents: Path, tmp_path: Path):
    spoilt = tmp_path / "latents"
    shutil.copytree(latents, spoilt)
    for file in sorted(spoilt.glob("*_latent.safetensors")):
        file.write_bytes(b"rubbish")
    done = torchrun(2, "-m", "vol3d", "train", *words_of(spoilt, tmp_path / "run", "torch"))
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("vol3d: ")]
    assert len(told) == 1
    assert re.search("cannot be read .*encode again", told[0])


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_others_and_is_named(
    straight: Path, latents: Path, tmp_path: Path
):
    run = tmp_path / "run"
    words = words_of(latents, run, "zero2")
    for victim, nimg in ((1, 24), (0, 64)):
        processes = ranks_of(2, words)
        wait_for(run, nimg)
        processes[victim].send_signal(signal.SIGKILL)
        told = ends(processes, within_s=30)
        assert [code for code, _ in told] == ([1, -9] if victim == 1 else [-9, 1])
        lines = told[1 - victim][1].splitlines()
        (named,) = [line for line in lines if line.startswith("vol3d: ")]
        assert re.match(rf"vol3d: rank {victim}.* has gone without a word.*Run again", named), named
    done = torchrun(2, "-m", "vol3d", "train", *words, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    assert all(weights(run)[k].equal(v) for k, v in weights(straight).items())


@pytest.mark.slow
def test_what_is_not_finite_on_one_rank_is_dropped_on_all(latents: Path, tmp_path: Path):
    spoilt = tmp_path / "latents"
    shutil.copytree(latents, spoilt)
    file = sorted(spoilt.glob("*_latent.safetensors"))[0]
    with safe_open(file, "pt") as stored:
        origin = stored.metadata()
    tensors = load_file(file)
    tensors["mean"][0, 0, 0, 0] = math.nan
    save_file(tensors, file, metadata=origin)
    runs = {engine: tmp_path / engine for engine in ("torch", "zero2", "zero3")}
    trainings = [words_of(spoilt, run, name, "total_nimg=24") for name, run in runs.items()]
    in_turn(2, trainings, tmp_path)
    name = file.name.removesuffix("_latent.safetensors")
    for run in runs.values():
        dropped = [line for line in read_log(run) if line["event"] == "dropped"]
        assert dropped, run.name
        assert all(name in line["names"] and "gradient" in line["terms"] for line in dropped)
        assert all(t.isfinite().all() for t in weights(run).values())


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_run_goes_on_once_there_is_room(
    straight: Path, latents: Path, tmp_path: Path
):
    def no_large_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    run = tmp_path / "run"
    words = words_of(latents, run, "zero2")
    told = ends(ranks_of(2, words, preexec_fn=no_large_files), within_s=120)
    assert [code for code, _ in told] == [1, 1]
    assert re.search(r"vol3d: .*the checkpoint could not be written .*make room", told[0][1])
    assert not list((run / "checkpoints").iterdir()), "nothing torn"
    done = torchrun(2, "-m", "vol3d", "train", *words, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    assert all(weights(run)[k].equal(v) for k, v in weights(straight).items())


@pytest.mark.slow
def test_mistakes_are_told_once(latents: Path, tmp_path: Path):
    words = words_of(latents, tmp_path / "run", "torch", "batch=3")
    told = ends(ranks_of(2, words), within_s=60)
    assert [code for code, _ in told] == [2, 1]
    assert told[0][1].splitlines()[-1].startswith("vol3d: batch=3: cannot be shared out evenly")
    assert "vol3d:" not in told[1][1]
    assert not (tmp_path / "run").exists()


def test_who_started_it_is_read_from_the_environment():
    assert launched({}) == Ranks()
    torch_says = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert launched(torch_says) == Ranks(3, 8, 1, 2)
    in_the_script = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}
    assert launched(in_the_script) == Ranks()
    srun_says = {
        **in_the_script,
        "SLURM_PROCID": "4",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "2",
        "SLURM_STEP_NUM_TASKS": "5",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
        "SLURM_STEP_NODELIST": "gpu[03-04,9]",
        "SLURM_STEP_ID": "1",
    }
    assert launched(srun_says) == Ranks(4, 5, 0, 1)
    assert meeting_place(srun_says) == ("gpu03", 12050)
    assert meeting_place({**srun_says, "MASTER_ADDR": "a", "MASTER_PORT": "5"}) == ("a", 5)
    del srun_says["SLURM_LOCALID"]
    with pytest.raises(ConfigError, match="lacks 'SLURM_LOCALID'"):
        launched(srun_says)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n[1-2]", "n1"), ("gpu[003-010,12]", "gpu003"), ("a1,b[2-3]", "a1")],
)
def test_first_node(nodes: str, first: str):
    assert first_node(nodes) == first


def test_tasks_per_node():
    assert tasks_per_node("2(x3),1") == [2, 2, 2, 1]


@pytest.mark.slow
def test_the_deepspeed_launcher_starts_it(straight: Path, latents: Path, tmp_path: Path):
    launcher = Path(sys.executable).parent / "deepspeed"
    words = words_of(latents, tmp_path / "run", "zero2")
    done = subprocess.run(
        [
            launcher,
            "--num_gpus=2",
            f"--master_port={free_port()}",
            "--module",
            "vol3d",
            "train",
            *words,
        ],
        env={**ONE_THREAD, "DS_ACCELERATOR": "cpu", "PATH": f"{launcher.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(weights(tmp_path / "run")[k].equal(v) for k, v in weights(straight).items())
