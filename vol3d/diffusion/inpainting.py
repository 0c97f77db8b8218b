"""Inpainting by replacement: some voxels are known, and the model draws the rest to go with them."""

from collections.abc import Callable

from torch import Tensor

from vol3d.diffusion.sampler_interface import Denoise


class Inpainted:
    """A denoiser whose estimate is replaced where the image is known.

    Every solver steps along a blend of x and the estimate of x0. So where the estimate is what is
    known, x is that with the noise due at each level, and the network sees it so: the known voxels
    replace the noisy ones (Song et al. 2021, arXiv:2011.13456, section 5 and appendix I.2) in the
    form of a null-space projection of the estimate (Wang et al. 2023, arXiv:2212.00490, eq. 13).

    Args:
        denoise: a denoiser.
        known: clean voxels, [B, C, X, Y, Z]; what is not known is not looked at.
        mask: 1 where they are known, else 0; [B, 1, X, Y, Z].
    """

    def __init__(self, denoise: Denoise, known: Tensor, mask: Tensor) -> None:
        self.denoise, self.known, self.mask = denoise, known, mask

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The estimate of x0, with the known voxels in place."""
        return self.replaced(self.denoise(x, sigma))

    def estimate(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor | None]:
        """The same, and the share of a learned variance."""
        D, share = self.denoise.estimate(x, sigma)
        return self.replaced(D), share

    def replaced(self, D: Tensor) -> Tensor:
        """An estimate with the known voxels in place."""
        mask = self.mask.to(D)
        return D + mask * (self.known.to(D) - D)


def inpainting(known: Tensor, mask: Tensor) -> Callable[[Denoise], Inpainted]:
    """What to put around a denoiser; see `Inpainted`."""
    return lambda denoise: Inpainted(denoise, known, mask)
