"""The denoiser D(x, sigma, cond): a network together with what its output means and its noise."""

from torch import Tensor, float32, float64, nn, promote_types

from vol3d.diffusion.condition import Condition
from vol3d.diffusion.prediction import Prediction, check_pair
from vol3d.diffusion.schedules import Schedule

NOTHING = Condition()


class Denoiser(nn.Module):
    """Estimates the clean image in a noisy one.

    The network may run under autocast; all other arithmetic is in float32 (or in x's float64).
    `sigma` is best float64 and on the CPU: its coefficients are computed there, then moved to x.
    """

    def __init__(self, net: nn.Module, prediction: Prediction, schedule: Schedule):
        super().__init__()
        check_pair(schedule, prediction)
        self.net = net
        self.prediction = prediction
        self.schedule = schedule

    def forward(self, x: Tensor, sigma: Tensor, cond: Condition = NOTHING) -> Tensor:
        """The estimate of x0, [B, C, X, Y, Z].

        Args:
            x: noisy images [B, C, X, Y, Z].
            sigma: noise level of each image [B], or of all of them [].
            cond: what guides the network.
        """
        x = x.to(promote_types(x.dtype, float32))
        alpha, sigma, scale_in, c_noise = self.coefficients(x, sigma)
        return self.prediction.denoised(self.predict(x, scale_in, c_noise, cond), x, alpha, sigma)

    def loss(self, x0: Tensor, noise: Tensor, sigma: Tensor, cond: Condition = NOTHING) -> Tensor:
        """Mean squared error of the network's output, of each image, [B].

        Args:
            x0: clean images [B, C, X, Y, Z].
            noise: standard normal, as x0.
            sigma: noise level of each image [B].
            cond: what guides the network.
        """
        x0 = x0.to(promote_types(x0.dtype, float32))
        alpha, sigma, scale_in, c_noise = self.coefficients(x0, sigma)
        F = self.predict(alpha * x0 + sigma * noise, scale_in, c_noise, cond)
        target = self.prediction.target(x0, noise, alpha, sigma)
        return (F - target).square().flatten(1).mean(1)  # [B]

    def predict(self, x: Tensor, scale_in: Tensor, c_noise: Tensor, cond: Condition) -> Tensor:
        """The network's output F, in x's dtype, [B, C, X, Y, Z]."""
        F = self.net(
            scale_in * x, c_noise, vector=cond.vector, tokens=cond.tokens, channels=cond.channels
        )
        return F.to(x.dtype)

    def coefficients(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """alpha, sigma and scale_in, each [B, 1, 1, 1, 1], and c_noise [B], in x's dtype."""
        sigma = sigma.to(float64).expand(len(x))  # [B]
        alpha = self.schedule.alpha(sigma)
        scale_in = self.prediction.scale_in(alpha, sigma)
        c_noise = self.schedule.c_noise(sigma).to(x)
        across = (-1,) + (1,) * (x.ndim - 1)
        return *(c.to(x).view(across) for c in (alpha, sigma, scale_in)), c_noise
