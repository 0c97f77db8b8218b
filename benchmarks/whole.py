"""What only vol3d does in one piece: a whole training step, and a sample from noise to NIfTI."""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks import ours
from benchmarks.sizes import Sizes
from benchmarks.timing import seconds
from benchmarks.weights import fill
from vol3d.bundle import write_bundle
from vol3d.config import lay
from vol3d.data.covariates import Covariates, Wanted
from vol3d.data.datasets.table import Table
from vol3d.diffusion.conditioning import Known
from vol3d.diffusion.model import Diffusion, Sampler
from vol3d.tasks.autoencode import Adversarial, Autoencode
from vol3d.tasks.job import Batch, Job
from vol3d.trained.generator import TrainedGenerator
from vol3d.training.engine import Engine
from vol3d.training.loop import Training, draw_batches, start
from vol3d.verbs.generate import Generate, write_brain
from vol3d.volume import Volume

STEPS = 20
"""Network calls of a sample without guidance."""
AFFINE = np.eye(4)


def train_whole(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Generator and discriminator at the whole volume, in the lean setting, with their optimisers.

    The first step makes the optimisers' state, and is not timed.
    """
    with TemporaryDirectory() as folder:
        data = Table(path=write_scan(Path(folder), sizes.volume))
        adversarial = Adversarial(weight=0.1, warmup_nimg=1)
        task = Autoencode(model=ours.autoencoder(sizes, "lean"), adversarial=adversarial)
        training = Training(
            run=Path(folder) / "run",
            total_nimg=100,
            batch=1,
            device=str(device),
            precision=ours.PRECISION,
        )
        job, engine = start(lambda: task.job(data), training)
        batches = draw_batches(job, training, nimg=1)  # the discriminator has its full say
        steps = 2 if device.type == "cpu" else 6
        taken = [seconds(lambda: update(job, engine, batches), device) for _ in range(steps)]
        batches.close()
        dropped = len(engine.watch.read())
    return {"seconds": median(taken[1:]), "dropped_updates": dropped}


def update(job: Job, engine: Engine, batches: Iterator[Batch]) -> None:
    """One update of every part, as the training loop makes it."""
    batch = next(batches)
    for part, losses in job.losses(engine, batch):
        engine.backward(part, losses, batch.share)
    engine.step(share=0.5, nimg=batch.nimg, names=batch.everyone)
    engine.average(batch.nimg, 1)


def write_scan(folder: Path, shape: tuple[int, int, int]) -> Path:
    """A scan of noise, and the table that lists it."""
    voxels = np.random.default_rng(0).random(shape, dtype=np.float32)
    Volume(voxels, AFFINE).write(folder / "scan.nii")
    table = folder / "scans.tsv"
    table.write_text("subject\timage\tsplit\n01\tscan.nii\ttrain\n")
    return table


def write_generator(sizes: Sizes, folder: Path) -> None:
    """A latent diffusion model of random weights as a bundle, told two covariates as BrainLDM is."""
    rows = [{"age": 30.0, "brain_ml": 1100.0}, {"age": 70.0, "brain_ml": 1300.0}]
    wanted = {"age": Wanted(unit="years"), "brain_ml": Wanted(unit="ml")}
    schema = Covariates.measure(wanted, rows, ["sub-1", "sub-2"])
    z_channels, tokens = sizes.autoencoder["latent_channels"], sizes.unet["cross_attention_dim"]
    model = ours.autoencoder(sizes, "inference")
    settings = Diffusion(
        model=ours.unet(sizes),
        conditions={
            "vector": None,
            "tokens": {"kind": "tokens", "dim": tokens},
            "channels": {"kind": "channels"},
        },
    )
    fingerprint = {
        "shape": list(sizes.volume),
        "affine": AFFINE.tolist(),
        "space_code": 4,
        "entities": {},
        "latents": {"shift": [0.0] * z_channels, "scale": [1.0] * z_channels},
    }
    autoencoder, denoiser = model.build(), settings.build(Known(schema, z_channels))
    fill(autoencoder)
    fill(denoiser)
    write_bundle(
        folder / "autoencoder",
        config={"kind": "autoencoder", "model": model.dump()},
        weights=autoencoder.state_dict(),
        documents={"fingerprint": fingerprint, "quality": {}},
        card="Random weights.",
    )
    write_bundle(
        folder / "generator",
        config={"kind": "diffusion", **settings.dump()},
        weights=denoiser.state_dict(),
        documents={"fingerprint": fingerprint, "covariates": schema.dump()},
        card="Random weights.",
        inside={"autoencoder": folder / "autoencoder"},
    )


def sample(folder: Path, device: torch.device) -> dict[str, Any]:
    """One brain, plain and guided, from the bundle that `write_generator` wrote."""
    start = time.perf_counter()
    model = TrainedGenerator(folder / "generator", device, ours.SAMPLER)
    found: dict[str, Any] = {"seconds_loading": time.perf_counter() - start}
    calls = []
    model.net.denoiser.net.register_forward_hook(lambda *_: calls.append(1))
    generate(model, folder / "warm", device, steps=2)
    for name, guidance in (("", 1.0), ("_guided", 3.0)):
        calls.clear()
        out = folder / f"brains{name}"
        found[f"seconds{name}"] = seconds(
            lambda out=out, guidance=guidance: generate(
                model, out, device, steps=STEPS, guidance=guidance
            ),
            device,
        )
        found[f"network_calls{name}"] = len(calls)
    return found


def generate(model: TrainedGenerator, out: Path, device: torch.device, **sampler: Any) -> None:
    """What `vol3d generate` does for one brain, once the model is loaded."""
    verb = Generate(bundle=model.path, out=out, device=str(device))
    model.sampler = Sampler.parse(lay(model.sampler.dump(), sampler))
    (planned,) = verb.plan(model)
    seed, _, row = planned
    x = model.generate([row], [seed])[0, 0].cpu().numpy()
    image = Volume(x, model.grid_of(row).affine, model.fingerprint["space_code"])
    write_brain(verb.path(model, seed), image, planned, model, {})
