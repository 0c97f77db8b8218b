"""Which parts go together: every valid pair samples the known distribution, every other is refused."""

import pytest
import torch
from torch import nn

from vol3d.diffusion.compatibility import check_pair, choices
from vol3d.diffusion.denoiser import Denoiser
from vol3d.diffusion.model import Diffusion
from vol3d.diffusion.schedules import EDM, VP, Cosine, Flow
from vol3d.diffusion.solvers import PNDM, Heun
from vol3d.diffusion.variance import LearnedVariance
from vol3d.errors import ConfigError

SCHEDULES = [*choices("schedule"), Cosine(zero_terminal_snr=True)]
STEPS = {"ddpm": 400, "euler_maruyama": 400, "predictor_corrector": 400}


def kind(part):
    return part.kind


@pytest.mark.parametrize("solver", choices("solver"), ids=kind)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=kind)
def test_a_valid_solver_reaches_the_known_distribution(schedule, solver, wide_gaussian):
    """Mean and spread of a Gaussian data set, of which the ideal denoiser is known."""
    if solver.objection(schedule) is not None:
        with pytest.raises(ConfigError, match=f"solver '{solver.kind}'.*'{schedule.kind}'.*Valid"):
            check_pair(schedule, solver, "solver")
        return
    rng = torch.Generator().manual_seed(1)
    levels = schedule.levels(STEPS.get(solver.kind, 100))

    def draw():
        return torch.randn(100, 1, 8, 8, 2, generator=rng, dtype=torch.float64)

    out = solver.sample(wide_gaussian.denoise(schedule), levels.sigma[0] * draw(), levels, draw)
    wide_gaussian.assert_drawn(out, rtol=0.25)


@pytest.mark.parametrize("prediction", choices("prediction"), ids=kind)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=kind)
def test_a_prediction_fits_or_is_refused_with_the_reason(schedule, prediction):
    if prediction.objection(schedule) is None:
        Denoiser(nn.Identity(), prediction, schedule)
        return
    match = f"prediction '{prediction.kind}'.*'{schedule.kind}': .*Valid with"
    with pytest.raises(ConfigError, match=match):
        Denoiser(nn.Identity(), prediction, schedule)


def test_flow_takes_what_says_something_at_pure_noise():
    fits = [p.kind for p in choices("prediction") if p.objection(Flow()) is None]
    assert fits == ["v", "x0", "flow", "odds"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "edm"}, "prediction 'flow' does not go with schedule 'edm'"),
        (
            {"schedule": "flow", "sampler": {"solver": "pndm"}},
            "solver 'pndm' does not go with schedule 'flow': .*pure noise.*Valid with 'flow': euler",
        ),
        (
            {
                "schedule": "vp",
                "prediction": "v",
                "sampler": {"solver": {"kind": "heun", "churn": 1}},
            },
            "churn is for an image that is not shrunk",
        ),
        ({"variance": {}}, "variance 'learned' does not go with schedule 'flow'"),
        (
            {
                "schedule": "cosine",
                "prediction": "eps",
                "sampler": {"solver": {"kind": "ddpm", "variance": "learned"}},
            },
            "this model has learnt none",
        ),
        (
            {"schedule": {"kind": "cosine", "zero_terminal_snr": True}, "prediction": "eps"},
            "prediction 'eps' does not go with schedule 'cosine'",
        ),
    ],
)
def test_wrong_settings_get_one_line(settings, message):
    with pytest.raises(ConfigError, match=message) as error:
        Diffusion.parse({"model": {"kind": "unet"}, **settings})
    assert "\n" not in str(error.value)


def test_churn_goes_with_an_unshrunk_image_only():
    assert Heun(churn=3).objection(EDM()) is None
    assert Heun(churn=3).objection(VP()) is not None
    assert Heun().objection(VP()) is None


def test_learned_variance_wants_timesteps():
    assert LearnedVariance().objection(Cosine()) is None
    with pytest.raises(ConfigError, match="neighbouring timesteps"):
        check_pair(EDM(), LearnedVariance(), "variance")


def test_table_in_the_docs_is_this_one(pytestconfig):
    rows = ["| schedule | predictions | solvers |", "|---|---|---|"]
    for schedule in choices("schedule"):
        fits = [
            ", ".join(p.kind for p in choices(role) if p.objection(schedule) is None)
            for role in ("prediction", "solver")
        ]
        rows.append(f"| {schedule.kind} | {fits[0]} | {fits[1]} |")
    assert "\n".join(rows) in (pytestconfig.rootpath / "docs" / "diffusion.md").read_text()


def test_pndm_does_not_start_from_pure_noise():
    with pytest.raises(ConfigError, match="estimates of the noise"):
        check_pair(Flow(), PNDM(), "solver")
