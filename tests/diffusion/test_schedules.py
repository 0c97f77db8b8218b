"""Noise levels: the published formulas, the drawn distributions, and what is refused."""

import math

import pytest
import torch

from vol3d.diffusion.schedules import (
    EDM,
    VE,
    VP,
    Cosine,
    Flow,
    LinearBeta,
    ScaledLinearBeta,
    SigmoidBeta,
)
from vol3d.errors import ConfigError

SCHEDULES = [
    EDM(),
    VE(),
    Flow(shift=3),
    VP(),
    LinearBeta(),
    ScaledLinearBeta(),
    SigmoidBeta(),
    Cosine(),
    Cosine(zero_terminal_snr=True),
]
DISCRETE = [LinearBeta, ScaledLinearBeta, SigmoidBeta, Cosine]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_levels_fall_to_the_image(schedule, steps):
    levels = schedule.levels(steps)
    assert levels.steps == steps
    assert levels.sigma.dtype == levels.alpha.dtype == torch.float64
    assert (levels.sigma.diff() < 0).all()
    assert levels.sigma[-1] == 0
    assert levels.alpha[-1] == 1
    assert levels.sigma[0] == schedule.levels(1).sigma[0]
    torch.testing.assert_close(levels.alpha, schedule.alpha(levels.sigma))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_refused(schedule, steps):
    with pytest.raises(ConfigError, match="steps"):
        schedule.levels(steps)


def test_edm_levels_are_equation_5():
    rho, low, high, N = 7, 0.002, 80, 18
    expected = [
        (high ** (1 / rho) + i / (N - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        for i in range(N)
    ]
    assert EDM().levels(N).sigma.tolist() == pytest.approx([*expected, 0], rel=1e-12)


def test_flow_levels_are_even_and_shift_as_equation_23():
    assert Flow().levels(4).sigma.tolist() == [1, 0.75, 0.5, 0.25, 0]
    shifted = Flow(shift=3).levels(4).sigma.tolist()
    assert shifted == pytest.approx([3 * t / (1 + 2 * t) for t in (1, 0.75, 0.5, 0.25, 0)])


def test_shift_matches_its_logit_mean():
    """What the field's text promises: a shifted level is a shift of the logit by ln(shift)."""
    sigma, shifted = Flow().levels(9).sigma[1:-1], Flow(shift=3).levels(9).sigma[1:-1]
    moved = shifted.logit() - sigma.logit()
    torch.testing.assert_close(moved, torch.full_like(moved, 3.0).log())


@pytest.mark.parametrize(
    ("schedule", "coordinate", "mean", "std"),
    [
        (EDM(p_mean=-0.4, p_std=1.0), torch.log, -0.4, 1.0),
        (Flow(logit_mean=0.5, logit_std=0.8), torch.logit, 0.5, 0.8),
        (Flow(draw="uniform"), torch.clone, 0.5, 12**-0.5),
        (VP(), VP().time, 0.5, 12**-0.5),
        (VE(), torch.log, math.log(0.02 * 100) / 2, math.log(100 / 0.02) / 12**0.5),
        (LinearBeta(), LinearBeta().c_noise, 499.5, 1000 / 12**0.5),
        (Cosine(), Cosine().c_noise, 499.5, 1000 / 12**0.5),
    ],
    ids=["edm", "logit_normal", "uniform", "vp", "ve", "linear_beta", "cosine"],
)
def test_drawn_sigmas_have_the_stated_distribution(schedule, coordinate, mean, std):
    rng = torch.Generator().manual_seed(0)
    drawn = coordinate(torch.stack([schedule.draw_sigma(rng) for _ in range(4000)]))
    assert float(drawn.mean()) == pytest.approx(mean, abs=4 * std / 4000**0.5)
    assert float(drawn.std()) == pytest.approx(std, rel=0.05)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
def test_draws_depend_on_the_generator_alone(schedule):
    def draw():
        return schedule.draw_sigma(torch.Generator().manual_seed(3))

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = draw()
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)
    assert torch.equal(first, draw())
    assert first.shape == ()
    assert first.dtype == torch.float64


@pytest.mark.parametrize("kind", DISCRETE, ids=lambda c: c.__name__)
def test_network_is_told_every_timestep_exactly(kind):
    schedule = kind()
    levels = schedule.levels(1000)
    expected = torch.arange(999, -1, -1, dtype=torch.float64)
    assert torch.equal(schedule.c_noise(levels.sigma[:-1]), expected)
    nudged = levels.sigma[:-1] * (1 - 1e-11)
    assert torch.equal(schedule.c_noise(nudged), expected)
    assert schedule.c_noise(levels.sigma[-1]) == 0


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("steps", range(1, 21))
def test_timesteps_are_distinct_and_in_range(spacing, steps):
    t = LinearBeta(num_train_timesteps=20, spacing=spacing).timesteps(steps)
    assert len(t) == steps
    assert (t.diff() < 0).all()
    assert 0 <= t.min() <= t.max() <= 19


def test_spacings_are_those_of_lin_et_al_table_2():
    def first_and_last(spacing):
        t = LinearBeta(spacing=spacing).timesteps(10)
        return t[:2].tolist() + t[-2:].tolist()

    assert first_and_last("trailing") == [999, 899, 199, 99]
    assert first_and_last("leading") == [900, 800, 100, 0]
    assert first_and_last("linspace") == [999, 888, 111, 0]


def test_more_steps_than_timesteps_are_refused():
    with pytest.raises(ConfigError, match=r"num_train_timesteps \(20\), got 21"):
        LinearBeta(num_train_timesteps=20).levels(21)


def test_betas_that_end_in_nothing_but_noise_are_refused():
    with pytest.raises(ConfigError, match="fewer timesteps or smaller betas"):
        LinearBeta.parse({"beta_end": 0.5})


def test_edm_range_is_checked():
    with pytest.raises(ConfigError, match="sigma_min must be below sigma_max"):
        EDM.parse({"sigma_min": 3, "sigma_max": 2})


def test_table_made_while_sampling_serves_in_training():
    with torch.inference_mode():
        schedule = LinearBeta(num_train_timesteps=17)
        schedule.levels(4)
    sigma = schedule.draw_sigma(torch.Generator().manual_seed(0))
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    (sigma * weight).backward()
    assert weight.grad == sigma


def test_vp_levels_are_even_in_time_and_ve_levels_in_the_logarithm():
    """The rows "Schedule" and "Time steps" of Table 1 of Karras et al. 2022."""
    t = VP().time(VP().levels(8).sigma[:-1])
    expected = [1 + i / 7 * (1e-3 - 1) for i in range(8)]
    assert t.tolist() == pytest.approx(expected, rel=1e-9)
    square = VE().levels(8).sigma[:-1] ** 2
    expected = [100**2 * (0.02**2 / 100**2) ** (i / 7) for i in range(8)]
    assert square.tolist() == pytest.approx(expected, rel=1e-12)


def test_cosine_is_the_iddpm_column_of_table_1():
    """u_j of Karras et al. 2022, by their recursion from u_M = 0, is sigma / alpha."""
    M, C1, C2, u = 1000, 0.001, 0.008, [0.0]

    def alpha_bar(j):
        return math.sin(math.pi / 2 * j / (M * (C2 + 1))) ** 2

    for j in range(M, 0, -1):
        u.append(math.sqrt((u[-1] ** 2 + 1) / max(alpha_bar(j - 1) / alpha_bar(j), C1) - 1))
    sigma = Cosine().levels(M).sigma[:-1].flip(0)
    ours = sigma / Cosine().alpha(sigma)
    # In their last step alpha_bar(0) is 0; ours keeps the offset there. The rest is the same.
    assert ours[:-1].tolist() == pytest.approx(u[1:-1], rel=1e-6)
    # Their network is told M - 1 - j where u_j is nearest: 0 at the least noise, as ours.
    assert Cosine().c_noise(sigma[:3]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", DISCRETE, ids=lambda c: c.__name__)
def test_zero_terminal_snr_is_algorithm_1(kind):
    plain, shifted = kind(), kind(zero_terminal_snr=True)
    root = (1 - plain.betas()).cumprod(0).sqrt()  # of alpha_bar
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha = shifted.levels(1000).alpha[:-1].flip(0)
    torch.testing.assert_close(alpha, root, rtol=1e-6, atol=1e-7)
    assert shifted.levels(1000).sigma[0] == 1
    assert shifted.starts_blank
    assert not plain.starts_blank


def test_timestep_before():
    schedule = LinearBeta(num_train_timesteps=20)
    sigma = schedule.levels(20).sigma.flip(0)  # 0, then the first timestep
    assert torch.equal(schedule.before(sigma[1:]), sigma[:-1])
