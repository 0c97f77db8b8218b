"""Structural similarity of two volumes, SSIM and MS-SSIM, with windows that fit small volumes.

SSIM: Wang et al. 2004 (doi:10.1109/TIP.2003.819861). MS-SSIM: Wang et al. 2003
(doi:10.1109/ACSSC.2003.1292216). The arithmetic is MONAI's.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor

SIGMA = 1.5
WINDOWS = (11, 7)
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, finest first: section 3.2 of 2003."""
ENOUGH_LEVELS = 3


@dataclass(frozen=True)
class Scales:
    """How MS-SSIM looks at volumes of one shape: a Gaussian window [voxels], each level half as fine."""

    window: int
    levels: int

    @property
    def weights(self) -> list[float]:
        """The published weights of the finest `levels` scales, made to sum to 1."""
        kept = WEIGHTS[: self.levels]
        return [w / sum(kept) for w in kept]


def scales_for(shape: tuple[int, ...]) -> Scales:
    """The published window of 11 voxels where it leaves 3 scales or more, else one of 7.

    Volumes of fewer than 7 voxels along an axis get the widest odd window that fits.
    """
    smallest = min(shape)
    choices = [Scales(w, levels_at(smallest, w)) for w in WINDOWS if smallest >= w]
    if not choices:
        return Scales(smallest - (smallest + 1) % 2, 1)
    return next((c for c in choices if c.levels >= ENOUGH_LEVELS), choices[-1])


def levels_at(smallest: int, window: int) -> int:
    """How many scales hold the window; the second divisor is a check that MONAI makes."""
    every = range(len(WEIGHTS))
    return max((n + 1 for n in every if smallest // max(2**n, n**2) >= window), default=1)


def window_for(shape: tuple[int, ...]) -> int:
    """The window of SSIM: 11 voxels, or the widest odd one that fits."""
    smallest = min(shape)
    return min(WINDOWS[0], smallest - (smallest + 1) % 2)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """SSIM of each pair, [B], over the windows that lie wholly inside the volume.

    Args:
        x: [B, 1, X, Y, Z] in [0, 1].
        y: the same.
    """
    from monai.metrics import SSIMMetric  # here: MONAI takes seconds to load

    metric = SSIMMetric(spatial_dims=3, win_size=window_for(x.shape[2:]), kernel_sigma=SIGMA)
    return metric(y, x).flatten()


def ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """SSIM around every voxel, [B, 1, X, Y, Z].

    Both volumes are continued with zeros by half a window, so that voxels at the border have a
    value too: outside a skull-stripped scan there is nothing.
    """
    window = window_for(x.shape[2:])
    x, y = (nnf.pad(v, (window // 2,) * 6) for v in (x, y))
    from monai.metrics.regression import compute_ssim_and_cs

    return compute_ssim_and_cs(y, x, 3, (window,) * 3, (SIGMA,) * 3)[0]  # [B, 1, X, Y, Z]


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM of each pair, [B], with the scales of `scales_for`; x and y as for `ssim`."""
    scales = scales_for(tuple(x.shape[2:]))
    from monai.metrics import MultiScaleSSIMMetric

    metric = MultiScaleSSIMMetric(
        spatial_dims=3, kernel_size=scales.window, kernel_sigma=SIGMA, weights=scales.weights
    )
    return torch.as_tensor(metric(y, x)).flatten()
