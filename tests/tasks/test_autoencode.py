"""The losses of the autoencoder and its discriminator."""

from pathlib import Path

import pytest

from tests.conftest import AUTOENCODER, data_words
from vol3d.cli import fill, load_verb
from vol3d.data.rng import torch_rng
from vol3d.errors import ConfigError
from vol3d.tasks.autoencode import Autoencode
from vol3d.tasks.job import Batch
from vol3d.training.loop import start


def job(cohort: Path, *more: str):
    words = ["run=unused", "total_nimg=8", *data_words(cohort), *AUTOENCODER, *more]
    training = fill("train", load_verb("train"), words)
    return start(lambda: training.task.job(training.data), training)


def batch_at(job, nimg: int) -> Batch:
    rngs = [torch_rng(0, nimg + i) for i in range(2)]
    drawn = [job.draw(s, rng)["x"] for s, rng in zip(job.scans, rngs, strict=False)]
    names = ["a", "b"]
    return Batch(nimg, names, [{}, {}], rngs, [{"x": x} for x in drawn], names)


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


DISCRIMINATORS = ["{channels: 4, layers: 2}", "{kind: multiscale, channels: 4, layers: 2}"]


@pytest.mark.parametrize("model", DISCRIMINATORS)
def test_each_part_gets_gradients_of_its_own_losses_only(model: str, cohort: Path):
    run, engine = job(
        cohort,
        "task.adversarial={weight: 1, feature_weight: 1, warmup_nimg: 0}",
        f"task.adversarial.model={model}",
    )
    steps = run.losses(engine, batch_at(run, 2))
    part, losses = next(steps)
    assert part == "autoencoder"
    (losses["adversarial"] + losses["features"]).backward(retain_graph=True)
    assert engine.nets["autoencoder"].last_layer.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in engine.nets["discriminator"].parameters())
    engine.nets["autoencoder"].zero_grad(set_to_none=True)
    part, losses = next(steps)
    losses["discriminator"].backward()
    assert all(p.grad is None for p in engine.nets["autoencoder"].parameters())
    assert all(p.grad is not None for p in engine.nets["discriminator"].parameters())


def test_features_are_those_of_a_discriminator(cohort: Path):
    with pytest.raises(ConfigError, match=r"feature_weight=1\.0 needs a discriminator"):
        job(cohort, "task.adversarial.feature_weight=1")


def test_its_patches_lie_anywhere_alike():
    with pytest.raises(ConfigError, match="patch: an autoencoder's patches lie anywhere alike"):
        Autoencode.parse({"model": "kl", "patch": {"size": [24, 24, 24], "foreground": 0.5}})


@pytest.mark.parametrize("more", [(), ("task.patch=[24,24,24]",)])
def test_a_volume_too_small_for_the_discriminator(more: tuple, cohort: Path):
    edge = 24 if more else 40  # the cohort's scans are 40x56x40
    with pytest.raises(ConfigError, match=rf"needs volumes of 47 voxels .* these have {edge}"):
        job(cohort, "task.adversarial.weight=1", "task.adversarial.model=multiscale", *more)


VQ = "task.model={kind: vq, channels: [8, 8], patch: 2, num_codes: 32}"


def test_codes_are_penalised_and_measured(cohort: Path):
    run, engine = job(cohort, VQ, "task.perceptual_weight=0")
    ((part, losses),) = run.losses(engine, batch_at(run, 0))
    assert set(losses) == {"l1", "commitment"}
    engine.backward(part, losses, 1.0)
    report = engine.step(share=0.0, nimg=0, names=["a", "b"])
    assert set(report) == {"l1", "commitment", "perplexity"}
    assert report["perplexity"] == 1, "all choose the first of codes that are not made yet"
    ((_, _),) = run.losses(engine, batch_at(run, 2))
    assert engine.told["perplexity"][0] > 2


def test_a_discriminator_that_begins_within_a_batch_waits_for_the_next(cohort: Path):
    run, engine = job(
        cohort,
        "task.adversarial={weight: 1, start_nimg: 3}",
        "task.adversarial.model={channels: 4, layers: 2}",
    )
    for nimg, expected in ((2, {"autoencoder"}), (4, {"autoencoder", "discriminator"})):
        for micro in batch_at(run, nimg).split(1):
            parts = []
            for part, losses in run.losses(engine, micro):
                engine.backward(part, losses, 0.5)
                parts.append(part)
            assert set(parts) == expected
        engine.step(share=0.0, nimg=nimg, names=["a", "b"])


def test_the_discriminator_is_heard_whatever_the_reconstruction_loss(cohort: Path):
    run, engine = job(
        cohort,
        "task.l1_weight=0",
        "task.l2_weight=1",
        "task.adversarial={weight: 1, warmup_nimg: 0}",
        "task.adversarial.model={channels: 4, layers: 2}",
    )
    heard = []
    for nimg in (2, 4):  # the weight is that of the update before
        for part, losses in run.losses(engine, batch_at(run, nimg)):
            heard += [losses["adversarial"].item()] if part == "autoencoder" else []
            engine.backward(part, losses, 1.0)
        engine.step(share=0.0, nimg=nimg, names=["a", "b"])
    assert heard[0] == 0
    assert heard[1] != 0
