"""Velocity fields that shape a brain, in mm per unit time: head size, ventricles, cortex, chance.

A field says how a point of the template moves to the person. Each part is fixed by the divergence
that it is to have: where it is positive tissue swells, where it is negative it shrinks.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from vol3d.data.synthetic.template import load_template
from vol3d.data.synthetic.warp import integrate, warp
from vol3d.volume import Grid

SPACING = 4.0
"""Of the grid that velocities live on, in mm."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The fields of unit strength, each [3, X, Y, Z] in mm.

    Attributes:
        grid: where their voxels lie.
        size: the head grows by a factor of e along each axis.
        ventricles: the lateral ventricles take in fluid at once their volume per unit time, and the
            tissue gives way; the skull stays.
        atrophy: the cortex shrinks and the fluid in the sulci takes its place; the skull stays.
        ventricles_ml: volume of the template's lateral ventricles.
        curve: ratios of ventricle volume to the template's, and the amounts that make them.
    """

    grid: Grid
    size: np.ndarray
    ventricles: np.ndarray
    atrophy: np.ndarray
    ventricles_ml: float
    curve: tuple[np.ndarray, np.ndarray]

    def ventricles_for(self, ratio: float) -> float:
        """How much of `ventricles` makes the lateral ventricles `ratio` times their size."""
        return float(np.interp(ratio, *self.curve))


@lru_cache(maxsize=1)
def load_parts() -> Parts:
    """The parts that all people share, from the template's tissues."""
    template = load_template(SPACING)
    csf, gm, wm, ventricles = template.tissues
    source = smooth(ventricles, mm=3)
    cortex, sulci = smooth(gm, mm=3), smooth(csf, mm=3)
    field = field_of(balance(source, smooth(gm + wm, mm=3)))
    return Parts(
        template.grid,
        size=positions(template.grid),
        ventricles=field,
        atrophy=field_of(balance(sulci * cortex.sum() / sulci.sum(), cortex)),
        ventricles_ml=float(ventricles.sum() * template.grid.voxel_ml),
        curve=calibrate(field, ventricles),
    )


def calibrate(field: np.ndarray, ventricles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What multiples of the field do to the volume of the ventricles, tried out."""
    amounts = np.array([-2, -1, -0.5, 0, 0.5, 1, 2, 3, 4, 5, 6, 7, 8], np.float32)
    moved = [warp(ventricles[None], integrate(-a * field, SPACING), SPACING) for a in amounts]
    return np.array([m.sum() / ventricles.sum() for m in moved]), amounts


def positions(grid: Grid) -> np.ndarray:
    """Where every voxel lies from the middle of the grid, in mm: [3, X, Y, Z]."""
    axes = [(np.arange(n) - (n - 1) / 2) * d for n, d in zip(grid.shape, grid.spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def smooth(data: np.ndarray, mm: float) -> np.ndarray:
    """Gaussian blur; `mm` is the standard deviation."""
    return ndimage.gaussian_filter(data, mm / SPACING, mode="constant")


def balance(source: np.ndarray, sink: np.ndarray) -> np.ndarray:
    """What flows in at the source leaves spread over the sink, so that nothing moves far away."""
    return source - sink * (source.sum() / sink.sum())


def field_of(divergence: np.ndarray) -> np.ndarray:
    """The curl-free field with this divergence, [3, X, Y, Z] in mm: Poisson's equation by FFT.

    In Fourier space div v = f reads i k . v = f, and v along k gives v = -i k f / |k|^2.
    """
    waves = [2 * np.pi * np.fft.fftfreq(n, SPACING) for n in divergence.shape]
    k = np.meshgrid(*waves, indexing="ij")
    f = np.fft.fftn(divergence)
    k2 = sum(ki**2 for ki in k)
    k2[0, 0, 0] = 1  # the mean of f is 0 by `balance`
    return np.stack([np.fft.ifftn(-1j * ki * f / k2).real for ki in k]).astype(np.float32)


def draw_smooth(rng: np.random.Generator, grid: Grid, knots_mm: float, count: int) -> np.ndarray:
    """Smooth random fields [count, X, Y, Z] of unit variance: B-splines with random weights."""
    bases = [spline_basis(n, knots_mm / grid.spacing[i]) for i, n in enumerate(grid.shape)]
    weights = rng.standard_normal((count, *[b.shape[1] for b in bases])).astype(np.float32)
    return np.einsum("cijk,xi,yj,zk->cxyz", weights, *bases, optimize=True)


def spline_basis(n: int, step: float) -> np.ndarray:
    """Cubic B-splines every `step` voxels at n voxels, [n, knots]; rows have unit length."""
    at = np.arange(n)[:, None] / step
    knots = np.arange(-1, int((n - 1) / step) + 3)[None]
    d = np.abs(at - knots)
    inner = 2 / 3 - d**2 + d**3 / 2
    outer = np.maximum(2 - d, 0) ** 3 / 6
    basis = np.where(d < 1, inner, outer)
    return (basis / np.linalg.norm(basis, axis=1, keepdims=True)).astype(np.float32)
