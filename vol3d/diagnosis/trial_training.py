"""A trial of training: a few real steps of networks as small as those of `make demo`, on noise."""

import math
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import numpy as np
import torch

from vol3d.data.fake import FakeImages, FakeLatents
from vol3d.data.rng import numpy_rng, torch_rng
from vol3d.data.visit import Visit
from vol3d.diagnosis.report_lines import Lines
from vol3d.errors import RunError
from vol3d.nn.precision import units_of, why
from vol3d.tasks import Task
from vol3d.tasks.job import Batch
from vol3d.training.engine import device_of
from vol3d.training.loop import Training, engine_of, update

SECONDS = 10.0
"""For all trials together, each of which makes two steps at least: the first may compile kernels."""
STEPS = 20
"""Of one trial, at most."""


class Trial(Training):
    """A training without data."""

    task: Task
    """What is tried."""


class RandomImages(FakeImages):
    """Scans of noise."""

    def read(self, scan: Visit) -> dict[str, np.ndarray]:
        """`x`, uniform in [0, 1]."""
        x = numpy_rng("doctor", scan.name).random((1, *self.grid.shape), dtype=np.float32)
        return {"x": x}


AUTOENCODER = {
    "kind": "autoencode",
    "model": {"kind": "kl", "patch": 2, "channels": [32, 64], "z_channels": 8},
    "perceptual_weight": 0.02,
}
DIFFUSION = {
    "kind": "diffuse",
    "model": {"kind": "unet", "channels": [64, 64], "num_res_blocks": 1, "head_channels": 32},
    "covariates": {"age": {"unit": "years"}, "sex": {"kind": "category"}},
}
TRIALS = {
    "autoencoder": (AUTOENCODER, 1, RandomImages((40, 56, 40))),
    "diffusion U-Net": (
        DIFFUSION,
        4,
        FakeLatents((8, 10, 14, 10), {"age": "number", "sex": "category"}),
    ),
}
"""Task, batch and data by name."""


def trials(device: torch.device) -> Iterator[tuple[str, Lines]]:
    """Each network in each precision, with its share of the time."""
    end = time.monotonic() + SECONDS
    names = [(name, precision) for name in TRIALS for precision in ("fp32", "bf16")]
    for i, (name, precision) in enumerate(names):
        task, batch, data = TRIALS[name]
        settings = {"task": task, "batch": batch, "precision": precision, "device": str(device)}
        now = time.monotonic()
        until = now + (end - now) / (len(names) - i)
        full = f"{name}, {precision}"
        yield full, attempt(full, settings, data, until)


def attempt(name: str, settings: dict[str, Any], data: Any, until: float) -> Lines:
    """Make steps until a moment, at least two."""
    device = device_of(settings["device"])
    if settings["precision"] == "bf16" and not units_of(device):
        yield name, f"not tried: {why(device)}"
        return
    everything = STEPS * settings["batch"]
    training = Trial.parse(
        {"run": "none", "total_nimg": everything, "optim": {"warmup": 0}, **settings}
    )
    torch.manual_seed(0)
    job = training.task.fake_job(data)
    engine = engine_of(job, training, device)
    before = [weights.detach().clone() for net in job.nets.values() for weights in net.parameters()]
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < STEPS and time.monotonic() < until):
        batch = random_batch(job, training, len(seconds))
        began = time.monotonic()
        losses = {k: v.item() for k, v in update(job, training, engine, batch).items()}
        seconds.append(time.monotonic() - began)
        if bad := [f"{k} is {v}" for k, v in losses.items() if not math.isfinite(v)]:
            raise RunError(f"step {len(seconds)}: {', '.join(bad)}")
    after = [weights.detach() for net in job.nets.values() for weights in net.parameters()]
    if all(torch.equal(a, b) for a, b in zip(after, before, strict=True)):
        raise RunError("the losses are finite, and yet no weight moved: the gradient is not finite")
    told = ", ".join(f"{k} {v:.3g}" for k, v in losses.items())
    steady = f"{median(seconds[1:]):.3g} s a step (the first {seconds[0]:.3g} s)"
    yield name, f"works: {steady}, losses finite after {len(seconds)}: {told}"


def random_batch(job: Any, training: Training, step: int) -> Batch:
    """The images of a step."""
    nimg = step * training.batch
    rngs = [torch_rng("doctor", nimg + i) for i in range(training.batch)]
    scans = [job.scans[i % len(job.scans)] for i in range(training.batch)]
    drawn = [job.draw(scan, rng) for scan, rng in zip(scans, rngs, strict=True)]
    names = [s.name for s in scans]
    return Batch(nimg, names, [s.covariates for s in scans], rngs, drawn, names)
