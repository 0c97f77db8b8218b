"""The losses of the autoencoder and its discriminator."""

from pathlib import Path

import pytest
import torch

from tests.conftest import AUTOENCODER, data_words
from vol3d.cli import fill, load_verb
from vol3d.data.rng import torch_rng
from vol3d.nn.adversarial import adaptive_weight, fool, judge
from vol3d.tasks.autoencode import random_patch
from vol3d.tasks.base import Batch
from vol3d.training.loop import start


def test_patches_come_from_their_generator_and_fit():
    x = torch.arange(6 * 7 * 5.0).reshape(1, 6, 7, 5)
    a = random_patch(x, (4, 4, 8), torch_rng(0, 1))
    assert a.shape == (1, 4, 4, 5)
    assert torch.equal(a, random_patch(x, (4, 4, 8), torch_rng(0, 1)))
    places = {int(random_patch(x, (4, 4, 5), torch_rng(0, i))[0, 0, 0, 0]) for i in range(200)}
    assert places == {int(x[0, i, j, 0]) for i in range(3) for j in range(4)}
    assert random_patch(x, None, torch_rng(0, 1)) is x


def test_adversarial_losses():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert judge([[real]], [[fake]], "hinge").item() == pytest.approx((0.25 + 0.5) / 2)
    assert judge([[real]], [[fake]], "least_squares").item() == pytest.approx(
        ((1 + 0.25) / 2 + 4.5) / 2
    )
    assert fool([[fake]], "hinge").item() == pytest.approx(1.5)
    assert fool([[fake]], "least_squares").item() == pytest.approx((16 + 1) / 2)


def test_adaptive_weight_is_the_ratio_of_gradients():
    w = torch.ones(3, requires_grad=True)
    assert adaptive_weight((6 * w).sum(), (2 * w).sum(), w).item() == pytest.approx(3, rel=1e-3)


def job(cohort: Path, *more: str):
    words = ["run=unused", "total_nimg=8", *data_words(cohort), *AUTOENCODER, *more]
    training = fill("train", load_verb("train"), words)
    return start(lambda: training.task.job(training.data), training)


def batch_at(job, nimg: int) -> Batch:
    rngs = [torch_rng(0, nimg + i) for i in range(2)]
    drawn = [job.draw(s, rng)["x"] for s, rng in zip(job.scans, rngs, strict=False)]
    return Batch(nimg, ["a", "b"], [{}, {}], rngs, {"x": torch.stack(drawn)})


def test_the_discriminator_waits_then_warms_up(cohort: Path):
    run, engine = job(
        cohort,
        "task.patch=[24,24,24]",
        "task.adversarial={weight: 1, start_nimg: 10, warmup_nimg: 10, adaptive: false}",
        "task.adversarial.model={channels: 4, layers: 2}",
    )
    before = dict(run.losses(engine, batch_at(run, 8)))
    assert set(before) == {"autoencoder"}
    assert set(before["autoencoder"]) == {"l1", "perceptual", "kl"}
    half, whole = (dict(run.losses(engine, batch_at(run, n))) for n in (15, 20))
    assert set(whole) == {"autoencoder", "discriminator"}
    assert half["autoencoder"]["adversarial"].isfinite()
    assert whole["autoencoder"]["adversarial"] != 0


def test_each_part_gets_gradients_of_its_own_losses_only(cohort: Path):
    run, engine = job(
        cohort,
        "task.adversarial={weight: 1, warmup_nimg: 0}",
        "task.adversarial.model={channels: 4, layers: 2}",
    )
    steps = run.losses(engine, batch_at(run, 2))
    part, losses = next(steps)
    assert part == "autoencoder"
    losses["adversarial"].backward(retain_graph=True)
    assert all(p.grad is None for p in engine.nets["discriminator"].parameters())
    engine.nets["autoencoder"].zero_grad(set_to_none=True)
    part, losses = next(steps)
    losses["discriminator"].backward()
    assert all(p.grad is None for p in engine.nets["autoencoder"].parameters())
    assert all(p.grad is not None for p in engine.nets["discriminator"].parameters())
