"""Schedules as a folder of MONAI's zoo names them, against those that MONAI makes of the same words."""

import pytest
import torch
from monai.networks import schedulers

from vol3d.config import Config
from vol3d.diffusion.schedules import Schedule
from vol3d.errors import ConfigError
from vol3d.models.monai.zoo import process_of


class Process(Config):
    schedule: Schedule


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"beta_start": 0.0015, "beta_end": 0.0195, "schedule": "scaled_linear_beta"},
        {"schedule": "sigmoid_beta", "beta_end": 0.03, "num_train_timesteps": 50},
        {"schedule": "sigmoid_beta", "sig_range": 3},
        {"schedule": "cosine", "num_train_timesteps": 40},
        {"schedule": "cosine", "s": 0.05, "num_train_timesteps": 40},
    ],
)
def test_a_schedule_has_the_noise_of_monais(said: dict):
    ours, prediction = process_of({"_target_": "DDPMScheduler", **said})
    theirs = schedulers.DDPMScheduler(**said)
    betas = Process.parse({"schedule": ours}).schedule.betas()
    torch.testing.assert_close(betas.float(), theirs.betas, rtol=1e-3, atol=2e-6)
    assert prediction == "eps"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"_target_": "RFlowScheduler"}, "predict the image less the noise"),
        ({"schedule": "mine"}, "unknown schedule 'mine'; name ours: schedule.kind"),
        ({"prediction_type": "score"}, "unknown prediction_type 'score'"),
    ],
)
def test_what_would_be_another_process_is_refused(said: dict, told: str):
    with pytest.raises(ConfigError, match=told):
        process_of(said)
