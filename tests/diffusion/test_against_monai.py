"""The same network, noise and steps through MONAI's schedulers, one for one."""

import pytest
import torch
from monai.networks.schedulers import (
    DDIMScheduler,
    DDPMScheduler,
    PNDMScheduler,
    RFlowScheduler,
)

from vol3d.diffusion.denoiser import Denoiser
from vol3d.diffusion.prediction import X0, Eps, FlowVelocity, V
from vol3d.diffusion.schedules import Cosine, Flow, LinearBeta, ScaledLinearBeta, SigmoidBeta
from vol3d.diffusion.solvers import DDIM, DDPM, PNDM, Euler

T = 40
BETAS = {"beta_start": 0.001, "beta_end": 0.15}
PAIRS = [
    (LinearBeta(num_train_timesteps=T, **BETAS), {"schedule": "linear_beta", **BETAS}),
    (ScaledLinearBeta(num_train_timesteps=T, **BETAS), {"schedule": "scaled_linear_beta", **BETAS}),
    (SigmoidBeta(num_train_timesteps=T, **BETAS), {"schedule": "sigmoid_beta", **BETAS}),
    (Cosine(num_train_timesteps=T), {"schedule": "cosine"}),
]
WITHIN = {"linear_beta": 1e-6, "scaled_linear_beta": 1e-6, "sigmoid_beta": 1e-6, "cosine": 2e-5}
"""MONAI's cosine is float32, and so has few digits near 90 degrees; the others fare better."""

THEIR_NAME = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
SHAPE = (3, 1, 4, 4, 4)


def start():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def seeded_draw():
    rng = torch.Generator().manual_seed(11)
    return lambda: torch.randn(SHAPE, generator=rng, dtype=torch.float64)


def timestep(t):
    return torch.full((SHAPE[0],), float(t), dtype=torch.float64)


def in_float64(scheduler):
    """MONAI's own betas (float32), with what follows from them in float64."""
    scheduler.betas = scheduler.betas.double()
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
    return scheduler


@pytest.fixture
def net(tiny_net):
    return tiny_net.double()


def by_name(value):
    return getattr(value, "kind", "")


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=by_name)
def test_noising_and_velocity_agree(ours, theirs):
    scheduler = DDPMScheduler(num_train_timesteps=T, **theirs)
    rng = torch.Generator().manual_seed(0)
    x0, n = torch.randn(2, T, 1, 2, 2, 2, generator=rng)
    sigma = ours.levels(T).sigma[:-1].flip(0).view(-1, 1, 1, 1, 1)
    alpha, sigma = ours.alpha(sigma).float(), sigma.float()
    t = torch.arange(T)
    torch.testing.assert_close(
        alpha * x0 + sigma * n, scheduler.add_noise(x0, n, t), rtol=0, atol=2e-6
    )
    torch.testing.assert_close(
        V().target(x0, n, alpha, sigma), scheduler.get_velocity(x0, n, t), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("schedule", [LinearBeta, ScaledLinearBeta, SigmoidBeta, Cosine])
def test_training_levels_of_a_thousand_timesteps_agree(schedule):
    betas = {} if schedule is Cosine else {"beta_start": 0.0015, "beta_end": 0.0195}
    ours = schedule(**betas)
    theirs = DDPMScheduler(1000, schedule=ours.kind, **betas).alphas_cumprod.double()
    alpha_bar = ours.levels(1000).alpha[:-1].flip(0) ** 2
    torch.testing.assert_close(alpha_bar, theirs, rtol=0, atol=2e-5)  # theirs is float32


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("prediction", [Eps(), V(), X0()], ids=by_name)
@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=by_name)
def test_ddpm_loop_agrees(ours, theirs, prediction, variance, net):
    scheduler = DDPMScheduler(
        num_train_timesteps=T,
        variance_type=f"fixed_{variance}",
        clip_sample=False,
        prediction_type=THEIR_NAME[prediction.kind],
        **theirs,
    )
    scheduler = in_float64(scheduler)
    x, rng = start(), torch.Generator().manual_seed(11)
    with torch.inference_mode():
        for t in scheduler.timesteps:
            x, _ = scheduler.step(net(x, timestep(t)), int(t), x, generator=rng)
        denoiser = Denoiser(net, prediction, ours)
        out = DDPM(variance=variance).sample(denoiser, start(), ours.levels(T), seeded_draw())
    assert_same(out, x, WITHIN[ours.kind])


@pytest.mark.parametrize("steps", [T, 8])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("prediction", [Eps(), V(), X0()], ids=by_name)
@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=by_name)
def test_ddim_loop_agrees(ours, theirs, prediction, eta, spacing, steps, net):
    ours = ours.model_copy(update={"spacing": spacing})
    scheduler = DDIMScheduler(
        num_train_timesteps=T,
        clip_sample=False,
        prediction_type=THEIR_NAME[prediction.kind],
        steps_offset=T // steps - 1 if spacing == "trailing" else 0,
        **theirs,
    )
    scheduler = in_float64(scheduler)
    scheduler.set_timesteps(steps)
    if spacing == "leading":  # MONAI's own timesteps and the stride of its step do not agree there
        scheduler.timesteps = torch.arange(steps - 1, -1, -1) * (T // steps)
    assert scheduler.timesteps.tolist() == ours.timesteps(steps).tolist()

    x, rng = start(), torch.Generator().manual_seed(11)
    with torch.inference_mode():
        for t in scheduler.timesteps:
            F = net(x, timestep(t))
            x, _ = scheduler.step(F, int(t), x, eta=eta, generator=rng)
        denoiser = Denoiser(net, prediction, ours)
        out = DDIM(eta=eta).sample(denoiser, start(), ours.levels(steps), seeded_draw())
    assert_same(out, x, WITHIN[ours.kind])


@pytest.mark.parametrize("steps", [2, 5, 10, T])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=by_name)
def test_pndm_loop_agrees(ours, theirs, steps, net):
    """MONAI's "skip_prk_steps" is how latent diffusion starts.

    Its steps expect the second timestep twice, which its list of them leaves out. (With
    v-prediction it blends velocities where the paper blends noise, so that is not compared.)
    """
    ours = ours.model_copy(update={"spacing": "leading"})
    scheduler = PNDMScheduler(
        num_train_timesteps=T, skip_prk_steps=True, prediction_type="epsilon", **theirs
    )
    scheduler = in_float64(scheduler)
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    scheduler.set_timesteps(steps)
    visited = scheduler.timesteps.tolist()
    assert visited == ours.timesteps(steps).tolist()
    x = start()
    with torch.inference_mode():
        for t in [*visited[:2], visited[1], *visited[2:]]:
            x = scheduler.step(net(x, timestep(t)), t, x)[0]
        denoiser = Denoiser(net, Eps(), ours)
        out = PNDM().sample(denoiser, start(), ours.levels(steps), seeded_draw())
    assert_same(out, x, WITHIN[ours.kind])


@pytest.mark.parametrize("steps", [5, 13, 30])
def test_linspace_timesteps_are_those_of_monai(steps):
    scheduler = DDIMScheduler(num_train_timesteps=T)
    scheduler.set_timesteps(steps)
    ours = LinearBeta(num_train_timesteps=T, spacing="linspace")
    assert ours.timesteps(steps).tolist() == scheduler.timesteps.tolist()


@pytest.mark.parametrize("steps", [8, 40, 100])
def test_rectified_flow_loop_agrees(steps, net):
    scheduler = RFlowScheduler(num_train_timesteps=1000)
    scheduler.set_timesteps(steps)
    x = start()
    following = [*scheduler.timesteps[1:].tolist(), 0]
    with torch.inference_mode():
        for t, t_next in zip(scheduler.timesteps.tolist(), following, strict=True):
            # MONAI's velocity points from noise to image, ours from image to noise.
            x, _ = scheduler.step(-net(x, timestep(t)), t, x, t_next)
        denoiser = Denoiser(net, FlowVelocity(), Flow())
        out = Euler().sample(denoiser, start(), Flow().levels(steps), seeded_draw())
    assert_same(out, x)


def test_rectified_flow_noising_agrees():
    scheduler = RFlowScheduler(num_train_timesteps=1000)
    x0, n = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0, 250, 999])
    sigma = (t.double() / 1000).view(-1, 1, 1, 1, 1)
    ours = Flow().alpha(sigma) * x0 + sigma * n
    torch.testing.assert_close(ours.float(), scheduler.add_noise(x0, n, t), rtol=0, atol=1e-6)


def assert_same(ours, theirs, within=1e-6):
    """To a fraction of the samples' size; what is left is the rounding of MONAI's betas."""
    assert theirs.isfinite().all()
    worst = float((ours - theirs).abs().max() / theirs.abs().max())
    assert worst < within, f"largest difference {worst:.2e} of the largest value"
