"""The learned variance of iDDPM: its bounds, its bound on the likelihood, and what it learns."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from vol3d.diffusion.denoiser import Denoiser
from vol3d.diffusion.prediction import Eps, V
from vol3d.diffusion.reverse_step import step
from vol3d.diffusion.schedules import Cosine, LinearBeta
from vol3d.diffusion.solvers import DDPM
from vol3d.diffusion.variance import LearnedVariance, least, log_variance

T = 30
SCHEDULE = Cosine(num_train_timesteps=T)


def table():
    """DDPM's own symbols, timestep by timestep."""
    beta = SCHEDULE.betas()
    alpha_bar = (1 - beta).cumprod(0)
    before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    return beta, alpha_bar, before


def neighbours():
    """alpha and sigma of every timestep, and of the one before it."""
    _, alpha_bar, before = table()
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), before.sqrt(), (1 - before).sqrt()


def test_bounds_are_those_of_ddpm():
    """beta-tilde (eq. 7) and beta, and the posterior mean's two coefficients."""
    beta, alpha_bar, before = table()
    at = step(*neighbours())
    tilde = (1 - before) / (1 - alpha_bar) * beta
    torch.testing.assert_close(at.large, beta)
    torch.testing.assert_close(at.small, tilde)
    torch.testing.assert_close(at.D_share, before.sqrt() * beta / (1 - alpha_bar))
    torch.testing.assert_close(at.x_share, (1 - beta).sqrt() * (1 - before) / (1 - alpha_bar))
    assert least(SCHEDULE) == pytest.approx(float(tilde[1]), rel=1e-9)


def test_share_interpolates_the_logarithms():
    """Equation 15."""
    _, alpha_bar, before = table()
    t = 12
    levels = [
        v[t] for v in (alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), before.sqrt(), (1 - before).sqrt())
    ]
    at = step(*levels)
    for v in (0.0, 0.3, 1.0):
        expected = v * math.log(at.large) + (1 - v) * math.log(at.small)
        assert float(log_variance(at, v, 0.0)) == pytest.approx(expected, rel=1e-9)


def test_loss_is_the_divergence_between_the_two_posteriors():
    """Against torch's own KL and log-density, in bits, timestep by timestep."""
    beta, alpha_bar, before = table()
    rng = torch.Generator().manual_seed(0)
    x0, D, x, share = torch.randn(4, T, 1, 2, 2, 2, generator=rng, dtype=torch.float64)
    share = share.sigmoid()
    sigma = SCHEDULE.levels(T).sigma[:-1].flip(0)
    variance = LearnedVariance(vlb_weight=0.5)
    ours = variance.loss(SCHEDULE, x0, D, share, sigma)
    tilde = ((1 - before) / (1 - alpha_bar) * beta).clamp(min=0)
    for t in range(T):
        low = tilde[max(t, 1)]
        spread = (share[t] * beta[t].log() + (1 - share[t]) * low.log()).exp().sqrt()
        share_D = before[t].sqrt() * beta[t] / (1 - alpha_bar[t])
        share_x = (1 - beta[t]).sqrt() * (1 - before[t]) / (1 - alpha_bar[t])
        model = Normal(share_D * D[t] + share_x * x[t], spread)
        if t == 0:
            nats = -model.log_prob(x0[t])
        else:
            true = Normal(share_D * x0[t] + share_x * x[t], tilde[t].sqrt().expand_as(x0[t]))
            nats = kl_divergence(true, model)
        expected = 0.5 * T * nats.mean() / math.log(2)
        assert float(ours[t]) == pytest.approx(float(expected), rel=1e-6), t


def test_bound_moves_the_variance_only():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean, self.share = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

        def forward(self, x, c_noise, **ports):
            return torch.cat([self.mean * x, self.share.expand_as(x)], 1)

    x0, noise = torch.randn(2, 4, 1, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    sigma = SCHEDULE.levels(T).sigma[[3, 10, 20, 29]]
    plain, both = Two(), Two()
    Denoiser(both, Eps(), SCHEDULE, variance=LearnedVariance()).loss(
        x0, noise, sigma
    ).sum().backward()

    class Half(nn.Module):
        def forward(self, x, c_noise, **ports):
            return plain(x, c_noise)[:, :1]

    Denoiser(Half(), Eps(), SCHEDULE).loss(x0, noise, sigma).sum().backward()
    torch.testing.assert_close(both.mean.grad, plain.mean.grad)
    assert both.share.grad.abs() > 0


class KnownGaussian(nn.Module):
    """The ideal noise estimate for data N(0, c), and one free number a timestep for the variance."""

    def __init__(self, c):
        super().__init__()
        self.c, self.share = c, nn.Parameter(torch.zeros(T, dtype=torch.float64))

    def forward(self, x, c_noise, **ports):
        t = c_noise.long()
        _, alpha_bar, _ = table()
        a, s = alpha_bar[t].view(-1, 1, 1, 1, 1), (1 - alpha_bar[t]).view(-1, 1, 1, 1, 1)
        n = s.sqrt() * x / (a * self.c + s)
        return torch.cat([n, self.share[t].view(-1, 1, 1, 1, 1).expand_as(x)], 1)


def test_learns_the_true_variance_of_the_reverse_step_and_samples_with_it():
    """For Gaussian data the reverse step is Gaussian, with a variance known in closed form."""
    c, rng = 0.25, torch.Generator().manual_seed(0)
    net = KnownGaussian(c)
    denoiser = Denoiser(net, Eps(), SCHEDULE, variance=LearnedVariance(vlb_weight=1.0))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    sigma = SCHEDULE.levels(T).sigma[:-1].flip(0)
    for _ in range(300):
        x0, noise = torch.randn(2, T, 1, 6, 6, 6, generator=rng, dtype=torch.float64)
        optimizer.zero_grad()
        denoiser.loss(c**0.5 * x0, noise, sigma).mean().backward()
        optimizer.step()
    beta, alpha_bar, before = table()
    V, V2 = alpha_bar * c + 1 - alpha_bar, before * c + 1 - before
    true = V2 - (1 - beta) * V2**2 / V  # by conditioning x_(t-1) on x_t
    learnt = log_variance(step(*neighbours()), (net.share.detach() + 1) / 2, least(SCHEDULE))
    torch.testing.assert_close(learnt[1:].exp(), true[1:], rtol=0.05, atol=0)

    n = 4000
    noises = torch.Generator().manual_seed(3)

    def draw():
        return torch.randn(n, 1, 1, 1, 1, generator=noises, dtype=torch.float64)

    def spread(variance):
        with torch.no_grad():
            out = DDPM(variance=variance).sample(denoiser, draw(), SCHEDULE.levels(T), draw)
        return float(out.var())

    assert spread("learned") == pytest.approx(c, rel=0.1)
    assert abs(spread("small") - c) > 2 * abs(spread("learned") - c)


def test_other_predictions_may_learn_it_too():
    schedule = LinearBeta(num_train_timesteps=T, beta_end=0.2)
    denoiser = Denoiser(KnownGaussian(0.25), V(), schedule, variance=LearnedVariance())
    rng = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 3, 1, 2, 2, 2, dtype=torch.float64, generator=rng)
    loss = denoiser.loss(x0, noise, schedule.levels(T).sigma[[0, 5, 29]])
    assert loss.isfinite().all()


def test_bound_is_where_the_images_are():
    """Noise levels live on the CPU; on the meta device a mixture is refused as on a GPU."""
    x0, D, share = (torch.empty(2, 1, 2, 2, 2, device="meta") for _ in range(3))
    sigma = torch.tensor([0.3, 0.6], dtype=torch.float64)
    assert LearnedVariance().loss(Cosine(), x0, D, share, sigma).device.type == "meta"
