"""What F means: against the published formulas, and against the known answer of a Gaussian."""

import math

import pytest
import torch
from torch import nn

from vol3d.diffusion.denoiser import Denoiser
from vol3d.diffusion.prediction import X0, Eps, FlowVelocity, Odds, Preconditioned, V
from vol3d.diffusion.schedules import EDM, VE, VP, Cosine, Flow, LinearBeta, SigmoidBeta

SD = 0.5
SCHEDULES = [EDM(), VE(), Flow(), VP(), LinearBeta(), SigmoidBeta(), Cosine()]
PREDICTIONS = [Eps(), V(), X0(), FlowVelocity(), Preconditioned(sigma_data=SD)]
VALID = [(s, p) for s in SCHEDULES for p in PREDICTIONS if p.objection(s) is None]


def edm_target(x0, n, sigma):
    """Eq. 8 of Karras et al. with the c's of Table 1, for x = x0 + sigma n."""
    c_skip = SD**2 / (sigma**2 + SD**2)
    c_out = sigma * SD / (sigma**2 + SD**2) ** 0.5
    return (x0 - c_skip * (x0 + sigma * n)) / c_out


PUBLISHED = {
    "eps": lambda x0, n, alpha, sigma: n,
    "v": lambda x0, n, alpha, sigma: alpha * n - sigma * x0,
    "x0": lambda x0, n, alpha, sigma: x0,
    "flow": lambda x0, n, alpha, sigma: n - x0,
    "edm": lambda x0, n, alpha, sigma: edm_target(x0, n, sigma),
}


class RightNet(nn.Module):
    """Answers the expected target given what it sees: the best that any network could do."""

    def __init__(self, gaussian, kind, alpha, sigma):
        super().__init__()
        self.gaussian, self.kind, self.alpha, self.sigma = gaussian, kind, alpha, sigma

    def forward(self, x, c_noise, **ports):
        if self.kind == "edm":
            x = x * (self.sigma**2 + SD**2) ** 0.5
        x0 = self.gaussian.x0_given(x, self.alpha, self.sigma)
        n = self.gaussian.n_given(x, self.alpha, self.sigma)
        return PUBLISHED[self.kind](x0, n, self.alpha, self.sigma)


def pair_name(value):
    return value.kind


@pytest.mark.parametrize(("schedule", "prediction"), VALID, ids=pair_name)
def test_right_network_gives_ideal_denoiser(schedule, prediction, gaussian):
    rng = torch.Generator().manual_seed(0)
    sigma = torch.cat([schedule.levels(20).sigma[:-1], schedule.draw_sigma(rng)[None]])
    for s in sigma:
        alpha = schedule.alpha(s)
        denoiser = Denoiser(RightNet(gaussian, prediction.kind, alpha, s), prediction, schedule)
        x = alpha * gaussian.mu + 3 * torch.randn(5, 1, 2, 2, 1, generator=rng, dtype=torch.float64)
        ideal = gaussian.x0_given(x, alpha, s)
        torch.testing.assert_close(denoiser(x, s), ideal, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("schedule", "prediction"), VALID, ids=pair_name)
def test_target_is_the_published_one_and_is_inverted(schedule, prediction):
    rng = torch.Generator().manual_seed(1)
    x0, n = torch.randn(2, 30, 1, 2, 2, 2, generator=rng, dtype=torch.float64)
    sigma = torch.stack([schedule.draw_sigma(rng) for _ in x0]).view(-1, 1, 1, 1, 1)
    alpha = schedule.alpha(sigma)
    F = prediction.target(x0, n, alpha, sigma)
    torch.testing.assert_close(F, PUBLISHED[prediction.kind](x0, n, alpha, sigma))
    denoised = prediction.denoised(F, alpha * x0 + sigma * n, alpha, sigma)
    torch.testing.assert_close(denoised, x0, rtol=0, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.002, 0.5, 3.0, 80.0])
def test_edm_preconditioning_is_table_1(sigma):
    p = Preconditioned(sigma_data=SD)
    s, one = torch.tensor(sigma, dtype=torch.float64), torch.ones((), dtype=torch.float64)
    root = math.sqrt(sigma**2 + SD**2)
    zero = torch.zeros((), dtype=torch.float64)
    assert float(p.scale_in(one, s)) == pytest.approx(1 / root, rel=1e-12)
    c_skip, c_out = p.denoised(zero, one, one, s), p.denoised(one, zero, one, s)
    assert float(c_skip) == pytest.approx(SD**2 / root**2, rel=1e-12)
    assert float(c_out) == pytest.approx(sigma * SD / root, rel=1e-12)
    assert float(EDM().c_noise(s)) == pytest.approx(1000 * math.log(sigma) / 4, rel=1e-12)


def test_edm_keeps_unit_variance_of_input_and_target():
    rng = torch.Generator().manual_seed(0)
    x0 = SD * torch.randn(200_000, generator=rng, dtype=torch.float64)
    n = torch.randn(200_000, generator=rng, dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    for sigma in torch.tensor([0.01, 0.5, 20.0], dtype=torch.float64):
        p = Preconditioned(sigma_data=SD)
        seen = p.scale_in(one, sigma) * (x0 + sigma * n)
        assert float(seen.var()) == pytest.approx(1, abs=0.02)
        assert float(p.target(x0, n, one, sigma).var()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("schedule", "prediction"), VALID, ids=pair_name)
def test_gain_is_the_slope_of_the_denoised(schedule, prediction):
    rng = torch.Generator().manual_seed(2)
    sigma = torch.stack([schedule.draw_sigma(rng) for _ in range(20)])
    alpha, x = schedule.alpha(sigma), torch.randn(20, generator=rng, dtype=torch.float64)
    F = torch.randn(20, generator=rng, dtype=torch.float64, requires_grad=True)
    prediction.denoised(F, x, alpha, sigma).sum().backward()
    torch.testing.assert_close(F.grad.abs(), prediction.gain(alpha, sigma))


def test_ve_and_vp_are_preconditioned_as_in_table_1():
    """D = c_skip x + c_out F(c_in x) in Karras's unshrunk frame, for the columns VP and VE."""
    rng = torch.Generator().manual_seed(3)
    x, F = torch.randn(2, 30, generator=rng, dtype=torch.float64)
    t = torch.linspace(0.01, 1, 30, dtype=torch.float64)
    vp = VP()
    B = 19.9 * t**2 / 2 + 0.1 * t
    karras_sigma = torch.expm1(B).sqrt()  # Table 1: sqrt(e^B - 1), with the scaling s = e^(-B/2)
    sigma, s = vp.sigma(t), (-B / 2).exp()
    torch.testing.assert_close(sigma / vp.alpha(sigma), karras_sigma, rtol=1e-9, atol=0)
    D = x - karras_sigma * F  # c_skip = 1, c_out = -sigma
    torch.testing.assert_close(Eps().denoised(F, s * x, vp.alpha(sigma), sigma), D)
    c_in = (karras_sigma**2 + 1).rsqrt()
    torch.testing.assert_close(Eps().scale_in(vp.alpha(sigma), sigma) * s * x, c_in * x)
    torch.testing.assert_close(vp.c_noise(sigma), 999 * t, rtol=1e-9, atol=0)

    ve, one = VE(), torch.ones(30, dtype=torch.float64)
    sigma = ve.levels(30).sigma[:-1]
    # c_skip = 1, c_out = sigma: their network is the score times sigma, ours its negative.
    torch.testing.assert_close(Eps().denoised(-F, x, one, sigma), x + sigma * F)
    assert float(ve.c_noise(sigma[3])) == pytest.approx(250 * math.log(sigma[3] / 2), rel=1e-12)


@pytest.mark.parametrize("low", [-1, 0])
def test_odds_of_digits_are_those_of_bayes(low):
    """Of digits that are set with the probability p, the odds after a look at x are known."""
    p, alpha, sigma = 0.1, torch.tensor(0.4), torch.tensor(0.6)
    rng = torch.Generator().manual_seed(0)
    digit = (torch.rand(200_000, generator=rng) < p).double()
    x0, n = low + (1 - low) * digit, torch.randn(len(digit), generator=rng, dtype=torch.float64)
    x = alpha * x0 + sigma * n
    likelihood = ((x - alpha * low).square() - (x - alpha).square()) / (2 * sigma**2)
    odds = math.log(p / (1 - p)) + likelihood
    prediction = Odds(low=low, prior=0.02)
    # All that a voxel's own value does not say here is how common digits are.
    F = torch.full_like(odds, math.log(p / (1 - p)) - math.log(0.02 / 0.98)).requires_grad_()
    torch.testing.assert_close(prediction.odds(F, x, alpha, sigma), odds)
    D = prediction.denoised(F, x, alpha, sigma)
    assert low <= D.min() < D.max() <= 1
    near = (x - x.mean()).abs() < 0.3  # the mean of x0 among alike x is D
    assert D[near].mean().item() == pytest.approx(x0[near].mean().item(), abs=0.01)
    loss = prediction.loss(F, x0, n, alpha, sigma).mean()
    loss.backward()
    assert abs(F.grad[near].sum() / near.double().mean()) < 0.003  # nothing is left to gain
    worse = [prediction.loss(F + d, x0, n, alpha, sigma).mean() for d in (-0.3, 0.3)]
    assert loss < min(worse)
    nothing_seen = prediction.loss(torch.zeros(1), torch.ones(1), n[:1], torch.zeros(1), sigma)
    assert nothing_seen.item() == pytest.approx(-math.log(0.02), rel=1e-5)
