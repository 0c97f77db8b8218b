"""Solvers against exact recursions and the exact solution, on a Gaussian data set.

With u = x - alpha mu and V = alpha^2 c + sigma^2, the ideal denoiser gives D - mu = alpha c / V u
and n = sigma / V u, so each step multiplies u by a known number; no solver's code is used for it.
"""

import math

import pytest
import torch

from vol3d.diffusion.levels import Levels
from vol3d.diffusion.schedules import EDM, Cosine, Flow, LinearBeta
from vol3d.diffusion.solvers import DDIM, DDPM, Euler, Heun

SCHEDULES = [EDM(), Flow(), Flow(shift=3), LinearBeta(), Cosine()]


def never():
    raise AssertionError("a deterministic solver drew noise")


def start(count, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 2, 2, 1, generator=rng, dtype=torch.float64)


def euler_gain(a, s, a2, s2, c):
    return (a2 * a * c + s2 * s) / (a**2 * c + s**2)


def heun_gain(a, s, a2, s2, c):
    euler = euler_gain(a, s, a2, s2, c)
    if s2 == 0:
        return euler
    slope_a = (a * c / (a**2 * c + s**2) + a2 * c / (a2**2 * c + s2**2) * euler) / 2
    slope_s = (s / (a**2 * c + s**2) + s2 / (a2**2 * c + s2**2) * euler) / 2
    return 1 + (a2 - a) * slope_a + (s2 - s) * slope_s


def walk(levels: Levels):
    a, s = levels.alpha.tolist(), levels.sigma.tolist()
    return list(zip(a[:-1], s[:-1], a[1:], s[1:], strict=True))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
@pytest.mark.parametrize(
    ("solver", "gain"),
    [(Euler(), euler_gain), (DDIM(), euler_gain), (Heun(), heun_gain)],
    ids=["euler", "ddim", "heun"],
)
def test_mean_and_variance_follow_the_recursion(solver, gain, schedule, gaussian):
    levels = schedule.levels(9)
    x = levels.sigma[0] * start(50)
    out = solver.sample(gaussian.denoise(schedule), x, levels, never)
    mean, variance = x.mean(0) - levels.alpha[0] * gaussian.mu, x.var(0)
    for step in walk(levels):
        g = gain(*step, gaussian.c)
        mean, variance = g * mean, g**2 * variance
    torch.testing.assert_close(out.mean(0), gaussian.mu + mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(out.var(0), variance, rtol=1e-10, atol=1e-10)


def posterior_std(a, s, a2, s2):
    """Std of x_s given x_t and x0, by conditioning two Gaussians; x_t = kept x_s + fresh noise."""
    kept = a / a2
    return math.sqrt(max(s2**2 - (kept * s2**2) ** 2 / s**2, 0))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
@pytest.mark.parametrize(
    ("solver", "eta"),
    [(DDPM(), None), (DDIM(eta=1.0), 1.0), (DDIM(eta=0.4), 0.4)],
    ids=["ddpm", "ddim_1", "ddim_0.4"],
)
def test_ancestral_steps_follow_the_recursion_draw_by_draw(solver, eta, schedule, gaussian):
    levels = schedule.levels(9)
    x = levels.sigma[0] * start(20)
    noises = [start(20, seed=1 + i) for i in range(levels.steps - 1)]
    left = list(noises)
    out = solver.sample(gaussian.denoise(schedule), x, levels, lambda: left.pop(0))
    assert not left, "one draw for each step but the last"

    u, c = x - levels.alpha[0] * gaussian.mu, gaussian.c
    for i, (a, s, a2, s2) in enumerate(walk(levels)):
        V, V2 = a**2 * c + s**2, a2**2 * c + s2**2
        std = posterior_std(a, s, a2, s2)
        if eta is None:  # the regression of x_s on x_t, whose covariance is kept V2
            g = a / a2 * V2 / V
        else:
            std = eta * std
            g = (a2 * a * c + math.sqrt(max(s2**2 - std**2, 0)) * s) / V
        u = g * u + (std * noises[i] if s2 else 0)
    torch.testing.assert_close(out, gaussian.mu + u, rtol=1e-10, atol=1e-10)


def test_ancestral_samples_have_the_data_distribution(gaussian):
    """The whole of it, by numbers: many DDPM steps give the means and variances of the data."""
    schedule, rng = LinearBeta(), torch.Generator().manual_seed(7)
    x = torch.randn(4000, 1, 2, 2, 1, generator=rng, dtype=torch.float64)

    def draw():
        return torch.randn(x.shape, generator=rng, dtype=torch.float64)

    out = DDPM().sample(gaussian.denoise(schedule), x, schedule.levels(1000), draw)
    error = (out.mean(0) - gaussian.mu) / (gaussian.c / 4000).sqrt()
    assert error.abs().max() < 4
    torch.testing.assert_close(out.var(0), gaussian.c, rtol=0.1, atol=0)


def even_angles(steps):
    """A smooth grid in the DDPM process: alpha = cos, sigma = sin of evenly spaced angles."""
    angle = torch.linspace(1.5, 0, steps + 1, dtype=torch.float64)
    return Levels(alpha=angle.cos(), sigma=angle.sin())


def measured_order(solver, levels_of, schedule, gaussian, counts=(32, 64, 128, 256)):
    """Slope of the error against the exact end of the ODE, over step counts, in logarithms."""
    errors = [ode_error(solver, levels_of(n), schedule, gaussian) for n in counts]
    n, e = torch.tensor(counts).log(), torch.tensor(errors).log()
    slope = ((n - n.mean()) * (e - e.mean())).sum() / (n - n.mean()).square().sum()
    return -float(slope), errors


def ode_error(solver, levels, schedule, gaussian):
    x = levels.alpha[0] * gaussian.mu + levels.sigma[0] * start(50)
    out = solver.sample(gaussian.denoise(schedule), x, levels, never)
    exact = gaussian.ode_end(x, levels.alpha[0], levels.sigma[0])
    return float((out - exact).square().mean().sqrt())


SMOOTH = {
    "edm": (EDM(sigma_min=1e-3).levels, EDM()),
    "flow": (Flow().levels, Flow()),
    "flow_shifted": (Flow(shift=3).levels, Flow()),
    "ddpm": (even_angles, Cosine()),
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize(
    ("solver", "low", "high"),
    [(Euler(), 0.9, 1.2), (DDIM(), 0.9, 1.2), (Heun(), 1.8, 2.3)],
    ids=["euler", "ddim", "heun"],
)
def test_order_of_convergence(solver, low, high, name, gaussian):
    order, errors = measured_order(solver, *SMOOTH[name], gaussian)
    assert low < order < high, f"order {order:.3f}, errors {errors}"


@pytest.mark.parametrize("schedule", [LinearBeta(), Cosine()], ids=lambda s: s.kind)
def test_order_on_ddpm_timesteps(schedule, gaussian):
    """sigma grows as the root of t near t = 0, so there Heun's last step, Euler's, is the limit."""
    counts = (25, 40, 50, 100)
    order, _ = measured_order(Euler(), schedule.levels, schedule, gaussian, counts)
    assert 0.9 < order < 1.2
    order, _ = measured_order(Heun(), schedule.levels, schedule, gaussian, counts)
    assert 1.3 < order < 2


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
def test_heun_beats_euler_for_the_same_network_calls(schedule, gaussian):
    heun = ode_error(Heun(), schedule.levels(25), schedule, gaussian)
    euler = ode_error(Euler(), schedule.levels(49), schedule, gaussian)
    assert heun < 0.8 * euler


@pytest.mark.parametrize(
    ("solver", "nfe"), [(Euler(), 6), (Heun(), 11), (DDPM(), 6), (DDIM(eta=0.5), 6)]
)
def test_each_step_is_told_and_counted(solver, nfe, gaussian):
    schedule, calls, told = Flow(), [], []

    def denoise(x, sigma):
        calls.append(float(sigma))
        return gaussian.denoise(schedule)(x, sigma)

    x = start(3)
    out = solver.sample(
        denoise, x, schedule.levels(6), lambda: start(3, 9), lambda *step: told.append(step)
    )
    assert len(calls) == nfe
    assert 0 not in calls
    assert [step[:2] for step in told] == [(i, 6) for i in range(1, 7)]
    torch.testing.assert_close(told[-1][2], out)  # the last denoised image is the sample
