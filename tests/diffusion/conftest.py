"""A data set of which everything is known: four voxels, each with its own mean and variance."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn


@dataclass
class Gaussian:
    """x0 ~ N(mu, c), so every distribution on the way to noise is a Gaussian too."""

    mu: Tensor  # [1, 2, 2, 1]
    c: Tensor  # [1, 2, 2, 1], variances

    def variance(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha**2 * self.c + sigma**2

    def x0_given(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        gain = self.c * alpha / self.variance(alpha, sigma)
        return self.mu + gain * (x - alpha * self.mu)

    def n_given(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return sigma / self.variance(alpha, sigma) * (x - alpha * self.mu)

    def denoise(self, schedule):
        return lambda x, sigma: self.x0_given(x, schedule.alpha(sigma), sigma)

    def ode_end(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Where the probability-flow ODE takes x: it keeps the number of standard deviations."""
        return self.mu + (x - alpha * self.mu) * (self.c / self.variance(alpha, sigma)).sqrt()

    def assert_drawn(self, x: Tensor, rtol: float) -> None:
        """Voxels of x [B, 1, ...] that repeat the four have their means and variances."""
        repeats = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).movedim((3, 5), (2, 3))
        four = repeats.reshape(*x.shape[:2], 2, 2, -1).movedim(-1, 0).flatten(0, 1)
        mean, variance = four.mean(0)[0], four.var(0)[0]
        apart = (mean - self.mu[0, :2, :2, 0]) / self.c[0, :2, :2, 0].sqrt()
        assert apart.abs().max() < 0.06, f"means are off by {apart.abs().max():.3f} sd"
        torch.testing.assert_close(variance, self.c[0, :2, :2, 0], rtol=rtol, atol=0.01)


class TinyNet(nn.Module):
    """A real network of the ports' signature that uses all it is given, in float64 if need be."""

    def __init__(self, channels: int = 1):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(channels, channels, 3, padding=1)
        self.out = nn.Conv3d(channels, channels, 1)

    def forward(self, x, c_noise, vector=None, tokens=None, channels=None, addition=None):
        h = self.conv(x) + (c_noise / 700).cos().view(-1, 1, 1, 1, 1)
        if vector is not None:
            h = h + vector.mean(1).view(-1, 1, 1, 1, 1)
        if tokens is not None:
            h = h * (1 + tokens.square().mean((1, 2)).view(-1, 1, 1, 1, 1))
        if channels is not None:
            h = h + channels.sum(1, keepdim=True)
        if addition is not None:
            h = h - addition.sum(1, keepdim=True)
        return self.out(h.tanh())


@pytest.fixture
def gaussian() -> Gaussian:
    mu = torch.tensor([0.7, -1.3, 0.0, 2.1], dtype=torch.float64).view(1, 2, 2, 1)
    c = torch.tensor([1.0, 0.04, 2.5, 0.3], dtype=torch.float64).view(1, 2, 2, 1)
    return Gaussian(mu, c)


@pytest.fixture
def wide_gaussian(gaussian) -> Gaussian:
    """The same four, over and over: where a solver looks at the norm of a whole image."""
    return Gaussian(gaussian.mu.repeat(1, 4, 4, 2), gaussian.c.repeat(1, 4, 4, 2))


@pytest.fixture
def tiny_net() -> TinyNet:
    return TinyNet()
