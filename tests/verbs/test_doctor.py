"""`vol3d doctor` tells what there is, goes on where something is broken, and touches no network."""

import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import monai
import pytest
import torch

from tests.conftest import vol3d
from vol3d import __version__
from vol3d.diagnosis import conclusion as conclusions
from vol3d.diagnosis import report_lines as lines
from vol3d.diagnosis import software
from vol3d.diagnosis.conclusion import conclusion
from vol3d.diagnosis.report_lines import scrubbed, told, version_of
from vol3d.diagnosis.trial_training import AUTOENCODER, RandomImages, attempt
from vol3d.errors import RunError
from vol3d.nn.precision import units_of

GUARD = """
import os, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        os._exit(99)
sys.addaudithook(refuse)
"""
RUN = "from vol3d.cli import main; main()"
ALONE = ["unshare", "-rn"]
"""Begins a command that has no network but a loopback that is down."""
CPU = torch.device("cpu")
TRIALS = [f"{net}, {p}" for net in ("autoencoder", "diffusion U-Net") for p in ("fp32", "bf16")]


def offline() -> list[str]:
    """What begins a command without a network, where this machine lets us."""
    can = subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
    return ALONE if can else []


def parsed(report: str) -> dict[str, dict[str, str]]:
    """The sections of a report, and the lines of each by name."""
    found: dict[str, dict[str, str]] = {}
    for line in report.splitlines():
        if re.match(r"\w", line):
            section = found.setdefault(line, {})
        elif line.strip():
            name, value = re.match(r"  (.{26}) (.*)", line).groups()
            section[name.strip()] = value
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """From an empty folder, where nobody can be asked."""
    folder = tmp_path_factory.mktemp("empty")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "RANK"))}
    env |= {"PYTHONPATH": str(Path(__file__).parents[2]), "NCCL_COMM_ID": "node7:1"}
    done = subprocess.run(
        [*offline(), sys.executable, "-c", GUARD + RUN, "doctor", "run=runs/new", "device=cpu"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    assert done.stderr == ""
    assert str(folder) not in done.stdout
    return done.stdout


def test_the_guard_would_have_caught_a_connection():
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([sys.executable, "-c", GUARD + code], capture_output=True, check=False)
    assert done.returncode == 99


@pytest.mark.slow
def test_it_tells_what_is_there(report: str):
    told = parsed(report)
    versions, devices = told["Versions"], told["Devices"]
    assert versions["vol3d"] == __version__
    assert versions["torch"] == torch.__version__
    assert versions["monai"] == monai.__version__
    assert platform.release() in versions["kernel"]
    assert versions["torch's CUDA"].startswith(torch.version.cuda or "none")
    assert devices["cores"].startswith(
        f"{os.cpu_count()}; this process may use {len(os.sched_getaffinity(0))}"
    )
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    assert devices["memory"].startswith(f"{gib:.1f} GiB")
    assert devices["torch uses"].startswith(torch.backends.cpu.get_cpu_capability())
    assert "gloo" in told["Interconnect"]["torch.distributed"]
    assert told["Queue and environment"]["queue"].startswith("none")
    assert told["Queue and environment"]["NCCL_COMM_ID"] == "is set (a path or an address)"
    for place in ("working directory", "TMPDIR", "run"):
        assert re.search(r"^\w+, [\d.]+ GiB free, .* [\d.]+ MB/s$", told["Disk"][place])


@pytest.mark.slow
def test_the_trial_is_told_with_its_time_and_losses(report: str):
    trial = parsed(report)["Trial step"]
    assert [*trial] == ["device", "precision=auto", *TRIALS]
    low = bool(units_of(torch.device("cpu")))
    for name in TRIALS:
        if name.endswith("bf16") and not low:
            assert trial[name].startswith("not tried: fp32, because")
            continue
        assert re.match(
            r"works: [\d.]+ s a step .* losses finite after \d+: \w+ [\d.]", trial[name]
        )
    worked, auto, faster = report.splitlines()[-3:]
    assert worked == "The trial step worked."
    assert auto == f"precision=auto is {trial['precision=auto']}."
    assert faster.startswith("Faster would be: ")


def test_what_would_be_faster_follows_from_the_trial_and_the_machine(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    monkeypatch.setattr(conclusions, "cores", lambda: torch.get_num_threads() + 3.0)
    auto = "bf16" if units_of(CPU) else "fp32"
    other = {"bf16": "fp32", "fp32": "bf16"}[auto]
    trial = {f"autoencoder, {auto}": "works: 0.4 s a step", "autoencoder, fp32 too": "failed"}
    told = conclusion(CPU, trial)
    assert told.startswith(f"precision=auto is {auto}")
    assert f"OMP_NUM_THREADS={torch.get_num_threads() + 3}" in told
    assert f"precision={other}" not in told
    told = conclusion(CPU, {**trial, f"autoencoder, {other}": "works: 0.2 s a step (the first)"})
    assert f"precision={other} for the autoencoder (0.2 s a step, 0.4 s in {auto})" in told


@pytest.mark.slow
def test_deepspeed_is_told_or_how_to_have_it(report: str):
    told = parsed(report)
    if version_of("deepspeed") is None:
        assert told["DeepSpeed"] == {"deepspeed": software.without("deepspeed")}
    else:
        assert told["DeepSpeed"]["accelerator"] in ("cpu", "cuda")
        assert "async_io" in told["DeepSpeed"]["ops undecided"]


def test_a_missing_package_is_one_calm_line(monkeypatch: pytest.MonkeyPatch):
    def version(name: str) -> str:
        raise lines.PackageNotFoundError(name)

    monkeypatch.setattr(lines, "version", version)
    remedy = 'not installed; if you need it: pip install "vol3d[deepspeed]"'
    assert list(software.deepspeed()) == [("deepspeed", remedy)]
    assert dict(software.versions())["deepspeed"] == remedy


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.slow
def test_what_is_broken_is_told_and_the_rest_goes_on(tmp_path: Path):
    """A DeepSpeed that cannot be imported, a driver that is gone, no TMPDIR, and no such device."""
    (tmp_path / "deepspeed").mkdir()
    (tmp_path / "deepspeed/__init__.py").write_text(
        "print('chatter'); raise ImportError('/a/b/lib.so: undefined symbol')"
    )
    (tmp_path / "deepspeed-0.19.1.dist-info").mkdir()
    (tmp_path / "deepspeed-0.19.1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: deepspeed\nVersion: 0.19.1\n"
    )
    program(tmp_path, "nvidia-smi", "echo NVIDIA-SMI has failed; exit 9")
    program(tmp_path, "squeue", '[ "$*" = "-h -j 17 -O TimeLeft" ] && echo 1-02:03:04')
    env = os.environ | {
        "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path / "gone"),
        "SLURM_JOB_ID": "17",
        "SLURM_NTASKS": "8",
        "SLURM_PROCID": "0",
    }
    done = vol3d("doctor", "device=cuda:99", cwd=tmp_path, env=env)
    told = parsed(done.stdout)
    smi = "failed: nvidia-smi ended with 9: NVIDIA-SMI has failed"
    assert told["Devices"]["gpus"] == told["Interconnect"]["topology"] == smi
    assert told["Versions"]["deepspeed"] == "0.19.1"
    assert told["DeepSpeed"] == {
        "deepspeed": "failed: python ended with 1: ImportError: .../lib.so: undefined symbol"
    }
    assert told["Disk"]["TMPDIR"] == "failed: No such file or directory"
    assert "MB/s" in told["Disk"]["working directory"]
    assert told["Queue and environment"]["SLURM_NTASKS"] == "8"
    assert told["Queue and environment"]["time left"] == "1-02:03:04"
    assert done.returncode == 1
    assert re.fullmatch(r"vol3d: the trial step did not work: .*cuda.*\n", done.stderr)
    assert "chatter" not in done.stdout


def test_a_check_that_breaks_off_keeps_what_it_found():
    def check() -> lines.Lines:
        yield "first", "found"
        yield "second", Path("/proc/none/at/all").read_text()

    assert list(told(check())) == [
        ("first", "found"),
        ("check", "failed: No such file or directory"),
    ]


def test_losses_that_are_not_finite_fail_the_trial():
    settings = {
        "task": AUTOENCODER,
        "batch": 1,
        "precision": "fp32",
        "device": "cpu",
        "optim": {"lr": 1e38, "warmup": 0},
    }
    with pytest.raises(RunError, match=r"step 2: l1 is (nan|inf)"):
        list(attempt("trial", settings, RandomImages((8, 8, 8)), time.monotonic() + 60))


def test_folders_people_and_hosts_are_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOGNAME", "marta")
    monkeypatch.setattr(platform, "node", lambda: "node7.clinic.org")
    text = (
        "OSError: /home/marta/env/lib.so on node7 (node7.clinic.org) of marta, enx0011aabbccdd up"
    )
    assert scrubbed(text) == "OSError: .../lib.so on HOST (HOST) of USER, ADDRESS up"
    assert (
        scrubbed("autoencoder 2.13.0+cpu, 1/2 of node70") == "autoencoder 2.13.0+cpu, 1/2 of node70"
    )


def test_one_process_of_a_run_reports():
    done = vol3d("doctor", env=os.environ | {"RANK": "3"})
    assert done.stdout == "(process 3 leaves the report to process 0)\n"
