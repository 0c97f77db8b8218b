"""A denoiser that is watched: something happens before and after each call, and the numbers stay."""

from collections.abc import Callable

from torch import Tensor

from vol3d.diffusion.sampler_interface import Around, Denoise


class Watched:
    """A denoiser around a denoiser, as `vol3d.diffusion.sampler_interface` has it.

    Args:
        denoise: a denoiser.
        before: is called before each call; what it raises ends the sampling.
        after: is shown each estimate [B, C, X, Y, Z].
    """

    def __init__(
        self, denoise: Denoise, before: Callable[[], None], after: Callable[[Tensor], None]
    ) -> None:
        self.denoise, self.before, self.after = denoise, before, after

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The estimate of x0."""
        self.before()
        D = self.denoise(x, sigma)
        self.after(D)
        return D

    def estimate(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor | None]:
        """The same, and the share of a learned variance."""
        self.before()
        D, share = self.denoise.estimate(x, sigma)
        self.after(D)
        return D, share


def watched(before: Callable[[], None], after: Callable[[Tensor], None] = lambda D: None) -> Around:
    """What to put around a denoiser; see `Watched`."""
    return lambda denoise: Watched(denoise, before, after)
