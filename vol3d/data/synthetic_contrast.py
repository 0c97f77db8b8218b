"""An image of no contrast that any scanner has, made from a label map: networks then learn anatomy alone.

SynthMorph (Hoffmann et al. 2022, IEEE TMI 41:543-558, arXiv:2004.10282), section III-B: each label has an
intensity of its own, drawn anew for each image; then blur, a drift of brightness, and noise. What has no
label inside the brain is here one more of them.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

LOWEST = 0.05
"""The darkest that tissue is."""
NOISE, BLUR, DRIFT, DRIFT_KNOTS = 0.05, 1.0, 0.3, 4
"""At most: noise, relative to the range; the blur's standard deviation in voxels; the drift's logarithm;
and of how many values along an axis the drift is made."""


def made_up(labels: Tensor, image: Tensor, rng: torch.Generator) -> Tensor:
    """An image [1, X, Y, Z] in [0, 1] with the borders of a label map.

    Args:
        labels: [1, X, Y, Z], 0 for none.
        image: [1, X, Y, Z]; where it is above 0 is the brain.
        rng: draws it.
    """
    brain = (image > 0) | (labels > 0)
    values, places = torch.unique(
        labels, return_inverse=True
    )  # 0 is one of them: what has no label
    shades = LOWEST + (1 - LOWEST) * torch.rand(len(values), generator=rng)
    x = shades[places] * brain
    x = blurred(x, BLUR * float(torch.rand((), generator=rng)))
    drift = torch.randn((1, 1, *[DRIFT_KNOTS] * 3), generator=rng)
    drift = interpolate(drift, size=x.shape[1:], mode="trilinear", align_corners=True)[0]
    x = x * (DRIFT * float(torch.rand((), generator=rng)) * drift).exp()
    noise = NOISE * float(torch.rand((), generator=rng))
    x = x + noise * torch.randn(x.shape, generator=rng)
    return (x * brain).clamp(0, 1)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """[1, X, Y, Z] by a Gaussian, axis by axis; sigma in voxels."""
    if sigma == 0:
        return x
    at = torch.arange(-3, 4, dtype=x.dtype)
    kernel = torch.softmax(-(at**2) / (2 * sigma**2), 0).tolist()
    for axis in (1, 2, 3):
        n = x.shape[axis]
        around = pad(x, [0, 0] * (3 - axis) + [3, 3])
        x = sum(k * around.narrow(axis, i, n) for i, k in enumerate(kernel))
    return x
