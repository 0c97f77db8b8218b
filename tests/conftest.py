"""Tiny real parts: a cohort, and models trained on it for a moment, once per test session."""

import fcntl
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from vol3d.cli import fill, load_verb


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        default="cpu",
        help="where tests marked gpu run: on cpu they are rehearsed, cuda is what they are for",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin, so that no worker waits for another at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where a test marked gpu runs: the same test, lest the first minute on a GPU go to a typo."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def in_float32() -> Iterator[None]:
    """Convolutions in float32 are that on a GPU too, and by the same algorithm each time."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """A test draws the same, whichever ran before it."""
    torch.manual_seed(0)


def verb(name: str, *words: str) -> Path:
    """Run a verb in this process, as the command line would."""
    return fill(name, load_verb(name), list(words)).execute()


def read_log(run: Path) -> list[dict]:
    """The records of a run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def vol3d(*words: str, **options) -> subprocess.CompletedProcess:
    """Run `vol3d` as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "vol3d", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def torchrun(world: int, *words: object, **options) -> subprocess.CompletedProcess:
    """Run a script, or `-m module`, in so many processes of one thread each."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*start, f"--nproc-per-node={world}", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def assert_valid_bids(folder: Path) -> None:
    """The BIDS validator finds no error, with nothing hidden from it."""
    assert not list(folder.rglob(".bidsignore"))
    validator = Path(sys.executable).parent / "bids-validator-deno"
    done = subprocess.run(
        [validator, str(folder), "--format", "json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [i for i in issues if i["severity"] == "error"] == []
    assert done.returncode == 0


def data_words(cohort: Path) -> list[str]:
    return ["data.kind=bids", f"data.path={cohort}", "data.entities.desc=brain"]


TINY = ["precision=fp32", "device=cpu", "check_memory=false"]
"""Of trainings that take less time than to find out what they need (test_planner.py does that)."""
AUTOENCODER = [
    "task.kind=autoencode",
    "task.model={kind: kl, channels: [8, 8], patch: 2, upsampling: transposed}",
    "batch=2",
    *TINY,
]
VQ = [
    "task.model={kind: vq, channels: [8, 8], patch: 2, num_codes: 32}",
    "task.adversarial={weight: 0.1, feature_weight: 0.1, start_nimg: 4, warmup_nimg: 4}",
    "task.adversarial.model={kind: multiscale, channels: 4, layers: 2, norm: group}",
]
SEGMENTER = [
    "task.kind=segment",
    "task.model={kind: unet, channels: [8, 8]}",
    "task.structures={ventricles_ml: [4], brain_ml: [2, 3]}",
    "data.labels_entities.desc=tissue",
    "batch=2",
    *TINY,
]
DIFFUSION = [
    "task.kind=diffuse",
    "task.model={kind: unet, channels: [8, 16]}",
    "task.conditions.vector.dim=16",
    "task.sampler={solver: heun, steps: 2, precision: fp32}",
    "batch=4",
    *TINY,
    "task.covariates={age: {unit: years}, sex: {kind: category}, brain_ml: {unit: ml},"
    " ventricles_ml: {unit: ml}}",
]
LABEL_DIFFUSION = [
    "task.kind=diffuse",
    "task.target={kind: labels, structures: {ventricles_ml: [4], brain_ml: [2, 3]}}",
    "task.model={kind: unet, channels: [8, 8, 8, 8]}",
    "task.conditions={vector: null, t1: {kind: image, of: T1w}}",
    "task.cond_dropout=0",
    "task.drop_all=0",
    "task.sampler={solver: euler, steps: 2, precision: fp32, micro_batch: 2}",
    "data.labels_entities.desc=tissue",
    "batch=2",
    *TINY,
]


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what all tests share; with several workers, that of all of them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "parts"
    folder.mkdir(exist_ok=True)
    return folder


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """A part that is made by the first worker who wants it, while others wait.

    Args:
        folder: where it is to be.
        make: makes it there.
    """
    done = folder.with_suffix(".done")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def cohort(parts: Path) -> Path:
    """Twelve people at 4 mm; every sixth is for validation."""
    return once(parts / "cohort", lambda out: verb("sample-cohort", str(out), "n=12"))


@pytest.fixture(scope="session")
def autoencoder(cohort: Path, parts: Path) -> Path:
    words = [*data_words(cohort), *AUTOENCODER, "total_nimg=8"]
    return once(parts / "autoencoder", lambda run: verb("train", f"run={run}", *words))


@pytest.fixture(scope="session")
def segmenter(cohort: Path, parts: Path) -> Path:
    words = [*data_words(cohort), *SEGMENTER, "total_nimg=8"]
    return once(parts / "segmenter", lambda run: verb("train", f"run={run}", *words))


@pytest.fixture(scope="session")
def latents(cohort: Path, autoencoder: Path, parts: Path) -> Path:
    words = [*data_words(cohort), "device=cpu"]
    return once(parts / "latents", lambda out: verb("encode", str(autoencoder), str(out), *words))


@pytest.fixture(scope="session")
def diffusion(latents: Path, parts: Path) -> Path:
    words = ["data.kind=latents", f"data.path={latents}", *DIFFUSION, "total_nimg=16"]
    return once(parts / "diffusion", lambda run: verb("train", f"run={run}", *words))


@pytest.fixture(scope="session")
def dropout_segmenter(cohort: Path, parts: Path) -> Path:
    """A U-Net whose answer depends on the seed."""
    words = [*data_words(cohort), *SEGMENTER, "task.model.dropout=0.3", "total_nimg=8"]
    return once(parts / "dropout", lambda run: verb("train", f"run={run}", *words))


@pytest.fixture(scope="session")
def label_diffusion(cohort: Path, parts: Path) -> Path:
    """A diffusion model that draws label maps of an image."""
    words = [*data_words(cohort), *LABEL_DIFFUSION, "total_nimg=8"]
    return once(parts / "label_diffusion", lambda run: verb("train", f"run={run}", *words))
