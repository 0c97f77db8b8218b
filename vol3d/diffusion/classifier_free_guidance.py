"""Classifier-free guidance: how hard a sample is pushed towards its conditions."""

from collections.abc import Callable, Sequence

from torch import Tensor

from vol3d.diffusion.condition import Condition

DenoiseWith = Callable[[Tensor, Tensor, Condition], Tensor]
"""`denoise_with(x, sigma, cond)`, for example a Denoiser."""


class Guided:
    """A denoiser that follows groups of conditions, each as hard as its weight says.

    D = D(full) + sum over groups g of (weight_g - 1) (D(full) - D(without g)).

    With one group that holds everything it is classifier-free guidance (Ho & Salimans 2022,
    arXiv:2207.12598, eq. 6, whose w is our weight - 1). Several groups compose by adding up, as in
    Liu et al. 2022 (arXiv:2206.01714), each told by what leaving it out changes.

    Args:
        without: for each group its weight (the guidance scale) and `full` with that group left
            out. A weight of 1 is off and costs no network call; 0 ignores the group.
    """

    def __init__(
        self,
        denoise_with: DenoiseWith,
        full: Condition,
        without: Sequence[tuple[float, Condition]] = (),
    ) -> None:
        self.denoise_with, self.full = denoise_with, full
        self.active = [(weight, left_out) for weight, left_out in without if weight != 1]

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The guided estimate of x0, [B, C, X, Y, Z]."""
        return self.pushed(self.denoise_with(x, sigma, self.full), x, sigma)

    def estimate(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor | None]:
        """The same, and the share of a learned variance, which is not guided."""
        D, share = self.denoise_with.estimate(x, sigma, self.full)
        return self.pushed(D, x, sigma), share

    def pushed(self, D_full: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The estimate, away from what it is without each group."""
        D = D_full
        for weight, left_out in self.active:
            D = D + (weight - 1) * (D_full - self.denoise_with(x, sigma, left_out))
        return D
