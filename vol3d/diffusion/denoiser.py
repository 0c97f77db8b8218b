"""The denoiser D(x, sigma, cond): a network together with what its output means and its noise."""

from torch import Tensor, float32, float64, nn, promote_types

from vol3d.diffusion.compatibility import check_pair
from vol3d.diffusion.condition import Condition
from vol3d.diffusion.prediction import Prediction
from vol3d.diffusion.schedules import Schedule
from vol3d.diffusion.variance import LearnedVariance
from vol3d.diffusion.weighting import Uniform, Weighting

NOTHING = Condition()
UNIFORM = Uniform()


class Denoiser(nn.Module):
    """Estimates the clean image in a noisy one.

    The network may run under autocast; all other arithmetic is in float32 (or in x's float64).
    `sigma` is best float64 and on the CPU: its coefficients are computed there, then moved to x.

    Args:
        net: f(x, c_noise, vector, tokens, channels, addition) -> F, [B, C, X, Y, Z]; twice as many
            channels where there is a variance to learn.
        prediction: what F means.
        schedule: the noise.
        weighting: how much each noise level counts.
        variance: a learned variance; None without.
    """

    def __init__(
        self,
        net: nn.Module,
        prediction: Prediction,
        schedule: Schedule,
        weighting: Weighting = UNIFORM,
        variance: LearnedVariance | None = None,
    ) -> None:
        super().__init__()
        check_pair(schedule, prediction, "prediction")
        if variance is not None:
            check_pair(schedule, variance, "variance")
        self.net = net
        self.prediction, self.schedule = prediction, schedule
        self.weighting, self.variance = weighting, variance

    def forward(self, x: Tensor, sigma: Tensor, cond: Condition = NOTHING) -> Tensor:
        """The estimate of x0, [B, C, X, Y, Z].

        Args:
            x: noisy images [B, C, X, Y, Z].
            sigma: noise level of each image [B], or of all of them [].
            cond: what guides the network.
        """
        return self.estimate(x, sigma, cond)[0]

    def estimate(
        self, x: Tensor, sigma: Tensor, cond: Condition = NOTHING
    ) -> tuple[Tensor, Tensor | None]:
        """The estimate of x0, and where the variance of a step from there lies between its bounds.

        The latter is None where no variance is learnt; see `forward` for the arguments.
        """
        x = x.to(promote_types(x.dtype, float32))
        alpha, sigma, scale_in, c_noise = self.coefficients(x, sigma)
        F, share = self.predict(x, scale_in, c_noise, cond)
        return self.prediction.denoised(F, x, alpha, sigma), share

    def loss(self, x0: Tensor, noise: Tensor, sigma: Tensor, cond: Condition = NOTHING) -> Tensor:
        """Weighted mean error of the network's output, as its prediction measures it, of each image, [B].

        Args:
            x0: clean images [B, C, X, Y, Z].
            noise: standard normal, as x0.
            sigma: noise level of each image [B].
            cond: what guides the network.
        """
        return self.learn(x0, noise, sigma, cond)[0]

    def learn(
        self, x0: Tensor, noise: Tensor, sigma: Tensor, cond: Condition = NOTHING
    ) -> tuple[Tensor, Tensor]:
        """The same, and the estimate of x0 that it is of; see `loss` for the arguments."""
        x0 = x0.to(promote_types(x0.dtype, float32))
        level = sigma
        alpha, sigma, scale_in, c_noise = self.coefficients(x0, sigma)
        x = alpha * x0 + sigma * noise
        F, share = self.predict(x, scale_in, c_noise, cond)
        error = self.prediction.loss(F, x0, noise, alpha, sigma)
        weight = self.weighting.weight(alpha, sigma, self.prediction.gain(alpha, sigma))
        loss = (weight * error).flatten(1).mean(1)  # [B]
        D = self.prediction.denoised(F, x, alpha, sigma)
        if self.variance is not None:
            loss = loss + self.variance.loss(self.schedule, x0, D, share, level).to(loss)
        return loss, D

    def seen(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Noisy images as the network sees them: scaled to unit variance."""
        return self.coefficients(x, sigma)[2] * x

    def predict(
        self, x: Tensor, scale_in: Tensor, c_noise: Tensor, cond: Condition
    ) -> tuple[Tensor, Tensor | None]:
        """The network's output F, and the variance's share in [0, 1] at first, both in x's dtype."""
        out = self.net(scale_in * x, c_noise, **cond.ports()).to(x.dtype)
        if self.variance is None:
            return out, None
        F, share = out.chunk(2, dim=1)
        return F, (share + 1) / 2

    def coefficients(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """alpha, sigma and scale_in, each [B, 1, 1, 1, 1], and c_noise [B], in x's dtype."""
        sigma = sigma.to(float64).expand(len(x))  # [B]
        alpha = self.schedule.alpha(sigma)
        scale_in = self.prediction.scale_in(alpha, sigma)
        c_noise = self.schedule.c_noise(sigma).to(x)
        across = (-1,) + (1,) * (x.ndim - 1)
        return *(c.to(x).view(across) for c in (alpha, sigma, scale_in)), c_noise
