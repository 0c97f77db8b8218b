"""Tiny real parts: a cohort, and models trained on it for a moment, once per test session."""

import json
import subprocess
import sys
from collections.abc import Iterator
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


AUTOENCODER = [
    "task.kind=autoencode",
    "task.model={kind: kl, channels: [8, 8], patch: 2, upsampling: transposed}",
    "batch=2",
    "precision=fp32",
    "device=cpu",
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
    "device=cpu",
]
DIFFUSION = [
    "task.kind=diffuse",
    "task.model={kind: unet, channels: [8, 16]}",
    "task.conditions.vector.dim=16",
    "task.sampler={solver: heun, steps: 2, precision: fp32}",
    "batch=4",
    "precision=fp32",
    "device=cpu",
    "task.covariates={age: {unit: years}, sex: {kind: category}, brain_ml: {unit: ml},"
    " ventricles_ml: {unit: ml}}",
]


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve people at 4 mm; every sixth is for validation."""
    return verb("sample-cohort", str(tmp_path_factory.mktemp("data") / "cohort"), "n=12")


@pytest.fixture(scope="session")
def autoencoder(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "autoencoder"
    verb("train", f"run={run}", *data_words(cohort), *AUTOENCODER, "total_nimg=8")
    return run


@pytest.fixture(scope="session")
def segmenter(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "segmenter"
    verb("train", f"run={run}", *data_words(cohort), *SEGMENTER, "total_nimg=8")
    return run


@pytest.fixture(scope="session")
def latents(cohort: Path, autoencoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return verb(
        "encode",
        str(autoencoder),
        str(tmp_path_factory.mktemp("data") / "latents"),
        *data_words(cohort),
        "device=cpu",
    )


@pytest.fixture(scope="session")
def diffusion(latents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "diffusion"
    verb(
        "train",
        f"run={run}",
        "data.kind=latents",
        f"data.path={latents}",
        *DIFFUSION,
        "total_nimg=16",
    )
    return run
