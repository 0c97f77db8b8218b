"""Solvers against exact recursions and the exact solution, on a Gaussian data set.

With u = x - alpha mu and V = alpha^2 c + sigma^2, the ideal denoiser gives D - mu = alpha c / V u
and n = sigma / V u, so each step multiplies u by a known number; no solver's code is used for it.
"""

import math

import pytest
import torch

from vol3d.diffusion.sampler_interface import Levels
from vol3d.diffusion.schedules import EDM, VE, VP, Cosine, Flow, LinearBeta
from vol3d.diffusion.solvers import (
    DDIM,
    DDPM,
    PNDM,
    DPMpp2M,
    Euler,
    EulerMaruyama,
    Heun,
    PredictorCorrector,
)

SCHEDULES = [
    EDM(),
    VE(),
    Flow(),
    Flow(shift=3),
    VP(),
    LinearBeta(),
    Cosine(),
    Cosine(zero_terminal_snr=True),
]


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


def even_lambda(steps):
    """Evenly spaced in log(alpha / sigma), the variable in which DPM-Solver is derived."""
    snr = torch.linspace(-4, 9, steps, dtype=torch.float64).exp()  # alpha / sigma
    alpha, sigma = snr * (1 + snr**2).rsqrt(), (1 + snr**2).rsqrt()
    end = torch.ones(1, dtype=torch.float64)
    return Levels(alpha=torch.cat([alpha, end]), sigma=torch.cat([sigma, 0 * end]))


@pytest.mark.parametrize("solver", [DPMpp2M(), PNDM()], ids=lambda s: s.kind)
def test_multistep_solvers_are_of_second_order(solver, gaussian):
    order, errors = measured_order(solver, even_lambda, VP(), gaussian)
    assert 1.8 < order < 2.6, f"order {order:.3f}, errors {errors}"


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
    ("solver", "nfe"),
    [
        (Euler(), 6),
        (Heun(), 11),
        (DDPM(), 6),
        (DDIM(eta=0.5), 6),
        (DPMpp2M(), 6),
        (PNDM(), 7),
        (EulerMaruyama(), 6),
        (PredictorCorrector(corrections=2), 16),
    ],
    ids=lambda v: getattr(v, "kind", v),
)
def test_each_step_is_told_and_counted(solver, nfe, gaussian):
    schedule, calls, told = VP(), [], []

    def denoise(x, sigma):
        calls.append(float(sigma))
        return gaussian.denoise(schedule)(x, sigma)

    x = start(3)
    out = solver.sample(
        denoise, x, schedule.levels(6), lambda: start(3, 9), lambda *step: told.append(step)
    )
    assert len(calls) == nfe == solver.calls(6)
    assert 0 not in calls
    assert [step[:2] for step in told] == [(i, 6) for i in range(1, 7)]
    if solver.kind != "pndm":  # which blends the last estimate with earlier ones
        torch.testing.assert_close(told[-1][2], out)  # the last denoised image is the sample


def gaussian_score(gaussian, alpha, sigma):
    """The score in closed form: -(x - alpha mu) / (alpha^2 c + sigma^2)."""
    return lambda x: -(x - alpha * gaussian.mu) / gaussian.variance(alpha, sigma)


def length(x):
    return x.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1)


@pytest.mark.parametrize("corrections", [0, 1, 2])
@pytest.mark.parametrize("schedule", [VE(), VP(), LinearBeta()], ids=lambda s: s.kind)
def test_sde_solvers_are_song_s_algorithms(schedule, corrections, gaussian):
    """Algorithms 2 to 5 of Song et al. 2021 in the paper's own symbols, with the known score."""
    levels = schedule.levels(7)
    x = start(5)
    noises = [start(5, seed=1 + i) for i in range(6 * (1 + corrections))]
    left = list(noises)
    solver = PredictorCorrector(corrections=corrections) if corrections else EulerMaruyama()
    out = solver.sample(gaussian.denoise(schedule), x, levels, lambda: left.pop(0))
    assert not left

    a, s, z = levels.alpha, levels.sigma, iter(noises)
    for i in range(6):
        score = gaussian_score(gaussian, a[i], s[i])
        if schedule.shrinks:
            beta = 1 - (a[i] / a[i + 1]) ** 2
            x = (2 - (1 - beta).sqrt()) * x + beta * score(x) + beta.sqrt() * next(z)
        else:
            beta, fall = 0, s[i] ** 2 - s[i + 1] ** 2
            x = x + fall * score(x) + fall.sqrt() * next(z)
        score = gaussian_score(gaussian, a[i + 1], s[i + 1])
        for _ in range(corrections):
            noise = next(z)
            g = score(x)
            epsilon = 2 * (1 - beta) * (0.16 * length(noise) / length(g)) ** 2
            x = x + epsilon * g + (2 * epsilon).sqrt() * noise
    expected = gaussian.x0_given(x, a[6], s[6])
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [VE(), VP(), LinearBeta()], ids=lambda s: s.kind)
@pytest.mark.parametrize("solver", [EulerMaruyama(), PredictorCorrector()], ids=lambda s: s.kind)
def test_sde_solvers_reach_the_data_distribution(solver, schedule, wide_gaussian):
    rng = torch.Generator().manual_seed(7)
    levels = schedule.levels(500)

    def draw():
        return torch.randn(100, 1, 8, 8, 2, generator=rng, dtype=torch.float64)

    out = solver.sample(wide_gaussian.denoise(schedule), levels.sigma[0] * draw(), levels, draw)
    wide_gaussian.assert_drawn(out, rtol=0.2)


def test_churn_is_algorithm_2_draw_by_draw(gaussian):
    """In the paper's symbols: gamma, t hat, the noise put back, then Heun from there."""
    schedule, N = EDM(sigma_max=20.0), 6
    solver = Heun(churn=1.8, churn_min=0.05, churn_max=10.0, churn_noise=1.007)
    t = schedule.levels(N).sigma
    x = t[0] * start(5)
    churned = [i for i in range(N) if 0.05 <= t[i] <= 10]
    assert 0 < len(churned) < N
    noises = [start(5, seed=i) for i in range(1, 1 + len(churned))]
    left = list(noises)
    out = solver.sample(gaussian.denoise(schedule), x, schedule.levels(N), lambda: left.pop(0))
    assert not left

    def denoised(x, sigma):
        return gaussian.x0_given(x, torch.ones(()), sigma)

    z = iter(noises)
    for i in range(N):
        gamma = min(1.8 / N, 2**0.5 - 1) if i in churned else 0
        t_hat = t[i] + gamma * t[i]
        x_hat = x + (t_hat**2 - t[i] ** 2).sqrt() * 1.007 * next(z) if gamma else x
        d = (x_hat - denoised(x_hat, t_hat)) / t_hat
        x = x_hat + (t[i + 1] - t_hat) * d
        if t[i + 1] != 0:
            d2 = (x - denoised(x, t[i + 1])) / t[i + 1]
            x = x_hat + (t[i + 1] - t_hat) * (d / 2 + d2 / 2)
    torch.testing.assert_close(out, x, rtol=1e-10, atol=1e-10)


def test_dpmpp_2m_is_algorithm_2_of_its_paper(gaussian):
    """In lambda = log(alpha / sigma), h and r as there; the last step to the image is first order."""
    schedule = VP()
    levels = schedule.levels(8)
    x = start(5)
    out = DPMpp2M().sample(gaussian.denoise(schedule), x, levels, never)
    a, s = levels.alpha, levels.sigma
    lam = (a / s).log()  # the last is infinite
    before = None
    for i in range(8):
        D = gaussian.x0_given(x, a[i], s[i])
        h = lam[i + 1] - lam[i]
        ahead = D
        if before is not None and i < 7:
            r = (lam[i] - lam[i - 1]) / h
            ahead = (1 + 1 / (2 * r)) * D - 1 / (2 * r) * before
        x = s[i + 1] / s[i] * x - a[i + 1] * torch.expm1(-h) * ahead
        before = D
    torch.testing.assert_close(out, x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
def test_few_steps_are_finite(schedule, steps, gaussian):
    for solver in [Euler(), Heun(), DPMpp2M(), PNDM(), DDIM(eta=1), DDPM(variance="large")]:
        if solver.objection(schedule) is None:
            levels = schedule.levels(steps)
            x = levels.sigma[0] * start(3)
            out = solver.sample(gaussian.denoise(schedule), x, levels, lambda: start(3, 9))
            assert out.isfinite().all(), solver.kind


def test_pndm_beats_ddim_for_the_same_network_calls(gaussian):
    schedule = VP()
    pndm = ode_error(PNDM(), schedule.levels(30), schedule, gaussian)
    ddim = ode_error(DDIM(), schedule.levels(31), schedule, gaussian)
    assert pndm < 0.5 * ddim
