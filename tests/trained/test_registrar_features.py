"""A registrar that sees a generator's features; its bundle needs no other file."""

import shutil
from pathlib import Path

import torch

from tests.conftest import TINY, data_words, verb
from tests.tasks.test_register import train
from vol3d.trained import open_registrar

GENERATOR = [
    *TINY,
    "task.kind=diffuse",
    "task.target={kind: images, patch: [12,12,12]}",
    "task.model={kind: unet, channels: [8, 8], middle_attention: false}",
    "task.conditions={vector: null}",
    "task.sampler={solver: euler, steps: 1, precision: fp32}",
    "batch=2",
    "total_nimg=2",
    "data.subjects=[0001,0002,0003]",
    "data.val_fraction=0",
]


def test_features_of_a_generator(cohort: Path, tmp_path: Path):
    source = tmp_path / "generator"
    verb("train", f"run={source}", *data_words(cohort), *GENERATOR)
    features = f"task.features={{of: {source}, width: 8, sigma: [0.1]}}"
    words = [features, "task.feature_channels=2", "total_nimg=2"]
    bundle = train(tmp_path / "run", cohort, *words)
    shutil.rmtree(source)
    opened = open_registrar(bundle)
    assert opened.net.registrar.encoder.conv_in.weight.shape[1] == 8 * (1 + 2)
    moving, fixed = torch.rand(2, 1, 1, 12, 16, 8)
    there, back = opened(moving, fixed), opened(fixed, moving)
    torch.testing.assert_close(there.displacement(), back.inverse(), atol=1e-4, rtol=0)
