"""What every task promises the engines that train it."""

from typing import get_args

import pytest

from tests.conftest import AUTOENCODER, DIFFUSION, LABEL_DIFFUSION, SEGMENTER
from tests.tasks.test_register import REGISTRAR
from vol3d.cli import fill, load_verb
from vol3d.errors import ConfigError
from vol3d.tasks import Task
from vol3d.tasks.job import Job
from vol3d.training.engines.deepspeed import DeepSpeed
from vol3d.training.planner import fake_data

SCANS = "data.kind=bids"
WORDS = {
    "autoencode": [*AUTOENCODER, SCANS],
    "diffuse": [*DIFFUSION, "data.kind=latents"],
    "diffuse labels": [*LABEL_DIFFUSION, SCANS],
    "segment": [*SEGMENTER, SCANS],
    "register": [*REGISTRAR, SCANS],
}


def job_of(*words: str) -> Job:
    words = ["run=unused", "total_nimg=1", "data.path=unused", *words]
    training = fill("train", load_verb("train"), words)
    shape = (2, 16, 16, 16) if training.data.kind == "latents" else (16, 16, 16)
    return training.task.fake_job(fake_data(training, shape))


def test_every_task_is_looked_at_here():
    tasks = get_args(get_args(Task)[0])
    assert {t.model_fields["kind"].default for t in tasks} == {n.split()[0] for n in WORDS}


@pytest.mark.parametrize("name", WORDS)
def test_a_job_has_all_that_is_asked_of_it(name: str):
    job = job_of(*WORDS[name])
    wanted = {*Job.__annotations__, *(n for n in vars(Job) if not n.startswith("_"))}
    assert {"uneven", "whole_weights", "draw"} < wanted
    assert not [name for name in wanted if not hasattr(job, name)]


def test_passes_that_differ_in_number_are_refused_where_gradients_are_shared_out():
    mixed = job_of(*WORDS["register"], "task.coarse=0.5")
    with pytest.raises(ConfigError, match=r"engine.stage=2: .* with task.coarse=0.5 the processes"):
        DeepSpeed(stage=2).check(mixed)
    DeepSpeed(stage=1).check(mixed)
    DeepSpeed(stage=2).check(job_of(*WORDS["register"], "task.coarse=1"))
