"""What a scanner does to an image: contrast, drift of brightness, noise, and whole numbers."""

import numpy as np

from vol3d.data.synthetic.velocity import draw_smooth
from vol3d.volume import Grid

NOISE = 0.015
"""Standard deviation of the noise, relative to white matter."""
BIAS = 0.04
"""Standard deviation of the slow drift of brightness across the head."""
CONTRAST = 0.08
"""Standard deviation of the exponent that brightens or darkens the greys."""


def scan(
    signal: np.ndarray,
    tissues: np.ndarray,
    grid: Grid,
    rng: np.random.Generator,
    percentile: float = 99.5,
    headroom: float = 1.2,
) -> np.ndarray:
    """The image that a scanner gives, uint8 [X, Y, Z]; 0 off the brain and nowhere in it.

    Args:
        signal: [X, Y, Z] without noise; white matter is about 1.
        tissues: [4, X, Y, Z] shares; a voxel is of the brain where they fill more than half of it.
        grid: where the voxels lie.
        rng: draws the contrast, the drift and the noise, in this order.
        percentile: of the brain's voxels, which one sets the scale.
        headroom: 255 is so many times that voxel.
    """
    inside = tissues.sum(0) > 0.5
    contrast = np.exp(CONTRAST * rng.standard_normal())
    bias = np.exp(BIAS * draw_smooth(rng, grid, knots_mm=80.0, count=1)[0])
    noise = NOISE * rng.standard_normal(signal.shape, dtype=np.float32)
    x = inside * np.maximum(signal ** np.float32(contrast) * bias + noise, 0.01)
    top = headroom * np.percentile(x[inside], percentile)
    return np.rint(255 * np.clip(x / top, 0, 1)).astype(np.uint8)
