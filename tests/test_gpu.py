"""The whole road on a GPU: `make gpu`. With `--device cpu`, the default, the same is rehearsed."""

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import read_log, verb
from vol3d.data.covariates import Covariates, Wanted
from vol3d.data.rng import randn, torch_rng
from vol3d.diffusion.conditioning import COVARIATES, Known
from vol3d.diffusion.model import Diffusion
from vol3d.trained.generator import TrainedGenerator
from vol3d.trained.sampling import draw_samples
from vol3d.volume import Volume

pytestmark = pytest.mark.gpu
CPU = torch.device("cpu")
SHAPE = (24, 28, 24)
TRAINING = ["batch=2", "total_nimg=8", "log_every=2", "preview_every=8"]
TRAINING += ["trackers={tensorboard: null}"]
KL = ["task.kind=autoencode", "task.model={kind: kl, channels: [8, 8], patch: 2}"]
GAN = [
    "task.adversarial={weight: 0.1, feature_weight: 0.1, start_nimg: 2, warmup_nimg: 2}",
    "task.adversarial.model={channels: 4, layers: 2, norm: group, norm_groups: 2}",
]
VQ = [
    "task.kind=autoencode",
    "task.model={kind: vq, channels: [8, 8], patch: 2, num_codes: 32, mid_attention_decoder: true}",
    GAN[0],
    "task.adversarial.model={kind: multiscale, channels: 4, layers: 2}",
]
SEGMENTER = [
    "task.kind=segment",
    "task.model={kind: unet, channels: [8, 8]}",
    "task.structures={ventricles_ml: [2], brain_ml: [1]}",
]
DIFFUSION = [
    "task.kind=diffuse",
    "task.model={kind: unet, channels: [8, 16]}",
    "task.conditions.vector.dim=16",
    "task.sampler.steps=2",
    "task.covariates={age: {unit: years}, brain_ml: {unit: ml}, ventricles_ml: {unit: ml}}",
]
EVERY_PORT = [
    "task.model={kind: dit, patch: 2, width: 48, depth: 2, head_channels: 16, checkpointing: true}",
    "task.conditions={tokens: {kind: tokens, dim: 12}, channels: {kind: channels},"
    " addition: {kind: addition, dim: 4}}",
]
DDPM = [
    "task.model={kind: unet, channels: [8, 16], attention_levels: [false, true],"
    " modulation: add, resblock_updown: true}",
    "task.schedule=scaled_linear_beta",
    "task.prediction=eps",
    "task.variance=learned",
    "task.weighting=min_snr",
    "task.sampler={solver: {kind: ddpm, variance: learned}, steps: 2}",
]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words for ten heads of one tissue, each with a hollow of another size; three to validate."""
    folder = tmp_path_factory.mktemp("scans")
    at = np.indices(SHAPE) - np.array(SHAPE).reshape(3, 1, 1, 1) / 2 + 0.5
    radius = np.sqrt((at**2).sum(0))
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    rows = ["subject\timage\tlabels\tsplit\tage"]
    for i in range(10):
        brain, hollow = radius < 9 + i % 3, radius < 3 + i / 5
        noise = 0.1 * np.random.default_rng(i).random(SHAPE)
        voxels = np.where(brain, np.where(hollow, 0.2, 0.8) + noise, 0).astype(np.float32)
        Volume(voxels, affine).write(folder / f"{i}.nii.gz")
        Volume((brain.astype(np.int16) + (brain & hollow)), affine).write(
            folder / f"{i}_seg.nii.gz"
        )
        split = "val" if i % 3 == 1 else "train"
        rows.append(f"{i:02}\t{i}.nii.gz\t{i}_seg.nii.gz\t{split}\t{20 + 5 * i}")
    (folder / "scans.tsv").write_text("\n".join(rows) + "\n")
    volumes = "data.volumes={ventricles_ml: [2], brain_ml: [1]}"
    return ["data.kind=table", f"data.path={folder / 'scans.tsv'}", volumes]


@pytest.fixture(scope="module")
def latents(device: torch.device, scans: list[str], tmp_path_factory: pytest.TempPathFactory):
    """The words for latents of an autoencoder that fooled a discriminator for a moment."""
    folder = tmp_path_factory.mktemp("autoencoder")
    run = f"run={folder / 'run'}"
    verb("train", run, *scans, *KL, *GAN, *TRAINING, f"device={device}")
    assert_learnt(folder / "run")
    out = verb("encode", str(folder / "run"), str(folder / "z"), *scans, f"device={device}")
    return ["data.kind=latents", f"data.path={out}"]


@pytest.fixture(scope="module")
def diffusion(device: torch.device, latents: list[str], tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("diffusion") / "run"
    verb("train", f"run={run}", *latents, *DIFFUSION, *TRAINING, f"device={device}")
    assert_learnt(run)
    return run


def assert_learnt(run: Path) -> None:
    """Every update was made, and every loss is a number."""
    log = read_log(run)
    assert not [line for line in log if line["event"] == "dropped"]
    told = [v for line in log for v in line.values() if isinstance(v, float)]
    assert all(map(math.isfinite, told))
    assert (run / "bundle" / "model.safetensors").is_file()


def apart(x: Tensor, y: Tensor) -> float:
    """Relative distance, on the CPU in float64."""
    x, y = (t.detach().cpu().double() for t in (x, y))
    return ((x - y).norm() / y.norm()).item()


def weights_apart(run: Path, other: Path) -> float:
    """Relative distance of the weights of two runs."""
    mine, theirs = (load_file(r / "bundle" / "model.safetensors") for r in (run, other))
    flat = [torch.cat([t[k].flatten() for k in sorted(theirs)]) for t in (mine, theirs)]
    return apart(*flat)


def test_train_generate_evaluate(
    device: torch.device, scans: list[str], diffusion: Path, tmp_path: Path
):
    pytest.importorskip("scipy", reason="figures of agreement want scipy")
    where = f"device={device}"
    verb("train", f"run={tmp_path / 'segmenter'}", *scans, *SEGMENTER, *TRAINING, where)
    cohort = verb("generate", str(diffusion), str(tmp_path / "cohort"), "n=3", "age=40", where)
    for path in cohort.rglob("*_T1w.nii.gz"):
        brain = Volume.read(path)
        assert brain.data.shape == SHAPE
        assert np.isfinite(brain.data).all()
        assert 0 <= brain.data.min() <= brain.data.max() <= 1
    report, _ = verb(
        "evaluate",
        str(tmp_path / "evaluation"),
        *scans,
        f"generator={diffusion}",
        f"segmenter={tmp_path / 'segmenter'}",
        "n=4",
        "pairs=2",
        where,
    )
    assert "data:image/png" in report.read_text()


@pytest.mark.parametrize("what", ["vq-gan, multiscale", "every port, transformer", "ddpm"])
def test_the_rest_of_the_menus_trains(
    what: str, device: torch.device, scans: list[str], latents: list[str], tmp_path: Path
):
    words = {
        "vq-gan, multiscale": [*scans, *VQ],
        "every port, transformer": [*latents, *DIFFUSION[:1], *DIFFUSION[3:], *EVERY_PORT],
        "ddpm": [*latents, *DIFFUSION, *DDPM],
    }[what]
    run = tmp_path / "run"
    verb(
        "train", f"run={run}", *words, *TRAINING, f"device={device}", "check_memory=false",
        "micro_batch=1",
    )  # fmt: skip
    assert_learnt(run)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("what", ["autoencoder with discriminator", "diffusion"])
def test_a_run_goes_on_where_it_was(
    what: str, device: torch.device, scans: list[str], latents: list[str], tmp_path: Path
):
    """On a GPU gradients are not added up in the same order each time, so the last bits differ."""
    words = [*latents, *DIFFUSION] if what == "diffusion" else [*scans, *KL, *GAN]
    words += [*TRAINING, f"device={device}", "precision=fp32", "check_memory=false"]
    words += ["save_every=4", "keep=9"]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    verb("train", f"run={straight}", *words)
    shutil.copytree(straight, broken)
    shutil.rmtree(broken / "bundle")
    shutil.rmtree(broken / "checkpoints" / "nimg-0000000008")
    verb("train", f"run={broken}", *words)
    assert weights_apart(broken, straight) < (1e-5 if device.type == "cuda" else 1e-12)


@pytest.mark.usefixtures("in_float32")
def test_a_sample_is_its_seeds_alone(device: torch.device, diffusion: Path):
    """Whatever else is made with it, and on whichever device."""
    model, on_cpu = (
        TrainedGenerator(diffusion, where, {"precision": "fp32"}) for where in (device, CPU)
    )
    rows = [model.complete({"age": 50.0}, seed) for seed in range(4)]
    together = model.generate(rows, list(range(4)))
    alone = model.generate(rows[2:3], [2])
    assert together.device.type == device.type
    assert apart(together[2:3], alone) < 1e-3
    assert apart(on_cpu.generate(rows[2:3], [2]), alone) < 1e-3
    assert apart(together[1:2], alone) > 0.01


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize(
    ("solver", "more"),
    [
        ("dpmpp_2m", {}),
        ("heun", {"schedule": "edm", "prediction": "edm"}),
        ("euler", {"schedule": "vp", "prediction": "v"}),
        ("ddim", {"schedule": "cosine", "prediction": "eps"}),
        ("ddpm", {"schedule": "linear_beta", "prediction": "v", "variance": "learned"}),
        ("pndm", {"schedule": "scaled_linear_beta", "prediction": "eps"}),
        ("euler_maruyama", {"schedule": "ve", "prediction": "edm"}),
        ("predictor_corrector", {"schedule": "sigmoid_beta", "prediction": "v"}),
    ],
)
def test_solvers_and_losses_give_what_they_give_on_a_cpu(
    solver: str, more: dict, device: torch.device
):
    rows = [{"age": 20.0, "sex": "F"}, {"age": 80.0, "sex": "M"}, {"age": 50.0, "sex": "F"}]
    wanted = {"age": Wanted(unit="years"), "sex": Wanted(kind="category")}
    schema = Covariates.measure(wanted, rows, ["1", "2", "3"])
    how = {"kind": solver, "variance": "learned"} if "variance" in more else solver
    settings = Diffusion.parse(
        {
            "model": {"kind": "unet", "channels": [8, 16]},
            "sampler": {"solver": how, "steps": 4, "precision": "fp32", "guidance": 2.0},
            **more,
        }
    )
    found = []
    for where in (device, CPU):
        torch.manual_seed(0)
        net = settings.build(Known(schema, 3))
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.1)
        net.to(where, memory_format=torch.channels_last_3d)
        z = draw_samples(net, schema, rows[:2], [0, 1], settings.sampler, (3, 6, 7, 6))
        rngs = [torch_rng("test", i) for i in range(2)]
        x0, noise = (randn((3, 6, 7, 6), rngs).to(where) for _ in range(2))
        sigma = torch.stack([settings.schedule.draw_sigma(rng) for rng in rngs])
        encoded = torch.tensor([schema.encode(row) for row in rows[:2]], device=where)
        loss = net(x0, noise, sigma, {COVARIATES: encoded})["denoising"]
        loss.sum().backward()
        found.append([z, loss, net.denoiser.net.conv_in.weight.grad])
    for mine, theirs in zip(*found, strict=True):
        assert apart(mine, theirs) < 1e-3


@pytest.mark.timeout(300)
def test_zero_gives_the_curve_of_the_plain_engine(
    device: torch.device, latents: list[str], tmp_path: Path
):
    """Of one process: in one of its own, since DeepSpeed sets variables for whoever comes after."""
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is an extra: pip install vol3d[deepspeed]")
    engines = {f"zero{stage}": f"{{kind: deepspeed, stage: {stage}}}" for stage in (1, 2, 3)}
    engines = {"torch": "torch", **engines}
    words = [*latents, *DIFFUSION, *TRAINING, f"device={device}", "precision=fp32"]
    words += ["check_memory=false", "micro_batch=1"]
    trainings = [[f"run={tmp_path / n}", f"engine={kind}", *words] for n, kind in engines.items()]
    (tmp_path / "trainings.json").write_text(json.dumps(trainings))
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.curves", tmp_path / "trainings.json"],
        env={**os.environ, "NVIDIA_TF32_OVERRIDE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    plain = losses(tmp_path / "torch")
    assert len(plain) == 4
    for name in engines:
        assert losses(tmp_path / name) == pytest.approx(plain, rel=1e-3)
        assert weights_apart(tmp_path / name, tmp_path / "torch") < 1e-3


def losses(run: Path) -> list[float]:
    return [line["denoising"] for line in read_log(run) if line["event"] == "train"]
