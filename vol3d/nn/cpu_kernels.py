"""Passes over memory on a CPU: norm, SiLU and their statistics, and Winograd's tiles.

torch takes a pass for each, and two for the statistics; together they were a third of the time of an
autoencoder. Numba compiles these at their first call, a few seconds, and keeps them on disk
where it can. Voxels are rows: [N, C], float32, or bf16 as the 16 bits that it is; arithmetic is float32,
and sums are taken of blocks that do not depend on the number of threads, then of blocks in float64.
"""

from collections.abc import Callable

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic, overload
from torch import Tensor

ROWS = 256
"""Voxels of a block: as many are summed in float32."""
f32, u32 = np.float32, np.uint32


def rows(x: Tensor) -> np.ndarray:
    """The voxels of x [1, C, X, Y, Z] as they lie: [N, C]."""
    voxels = x.detach().permute(0, 2, 3, 4, 1).reshape(-1, x.shape[1])
    return (voxels.view(torch.uint16) if x.dtype == torch.bfloat16 else voxels).numpy()


def mean_and_var(x: Tensor) -> Tensor:
    """See `norm_ops.mean_and_var`. Shifted by the first voxel, so that a large mean costs no digits."""
    centre, voxels = first_voxel(x), rows(x)
    return from_sums(run(sums, voxels, voxels, False, False, centre), x, centre)


def brought(made: Tensor, out: Tensor, is_added: bool) -> Tensor:
    """See `norm_ops.brought`."""
    centre = first_voxel(made) + (first_voxel(out) if is_added else 0)
    return from_sums(run(sums, rows(made), rows(out), True, is_added, centre), out, centre)


def normalise(
    x: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, is_active: bool, out: Tensor
) -> None:
    """See `norm_ops.normalise`."""
    shift = beta - scale * mean
    run(affine, rows(x), scale.numpy(), shift.numpy(), is_active, rows(out))


def normalise_backward(
    g: Tensor, x: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, is_active: bool, out: Tensor
) -> Tensor:
    """See `norm_ops.normalise_backward`; the kernel's sums are of out x and of out."""
    shift = beta - scale * mean
    parts = run(
        affine_backward, rows(g), rows(x), scale.numpy(), shift.numpy(), is_active, rows(out)
    )
    told = torch.from_numpy(parts.sum(0, dtype=np.float64))
    told[0] -= mean * told[1]
    return told.to(mean.dtype)


def combine(g: Tensor, x: Tensor, mean: Tensor, a: Tensor, b: Tensor, c: Tensor) -> None:
    """See `norm_ops.combine`."""
    run(combined, rows(g), rows(x), a.numpy(), b.numpy(), (c - b * mean).numpy())


def to_tiles(x: Tensor, first: int, row: int, out: Tensor) -> None:
    """Planes from `first` on of x [X, Y, Z, C], zero outside, as tiles from a row of them on.

    out [16, tiles, planes, C]: B' d B.
    """
    run(tiled, x.detach().numpy(), first, row, out.numpy())


def from_tiles(x: Tensor, bias: Tensor, row: int, out: Tensor) -> None:
    """Planes [planes, Y, Z, D], of which tiles from a row of them on are written: A' m A + bias.

    x [planes, 16, tiles, D].
    """
    run(untiled, x.numpy(), bias.detach().numpy(), row, out.numpy())


def to_gradient_tiles(g: Tensor, row: int, out: Tensor) -> None:
    """The way back of `from_tiles` for a gradient: out [planes, 16, tiles, D], A g A'."""
    run(tiled_gradient, g.detach().numpy(), row, out.numpy())


def first_voxel(x: Tensor) -> np.ndarray:
    """Its channels, float32."""
    return x[0, :, 0, 0, 0].detach().float().numpy()


def from_sums(told: np.ndarray, x: Tensor, centre: np.ndarray) -> Tensor:
    """Mean and unbiased variance, [2, C], from blocks' sums of x - centre and of its square."""
    (s, q), n = told.sum(0, dtype=np.float64), x[0, 0].numel()
    return torch.from_numpy(np.stack([centre + s / n, (q - s * s / n) / max(n - 1, 1)])).float()


def run(kernel: Callable, *args) -> np.ndarray | None:
    """Call a kernel on as many threads as torch has."""
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    told = kernel(*args)
    if torch.get_num_threads() != threads:  # numba's first call sets OpenMP's own number
        torch.set_num_threads(threads)
    return told


def compiled(f: Callable) -> Callable:
    """Compile a kernel; kept on disk unless there is no place that can be written to."""
    options = {"parallel": True, "error_model": "numpy", "fastmath": {"nsz", "contract"}}
    try:
        return njit(cache=True, **options)(f)
    except RuntimeError:
        return njit(**options)(f)


@intrinsic
def float_of(_, bits):  # noqa: D103
    return types.float32(types.uint32), lambda c, b, s, a: b.bitcast(a[0], ir.FloatType())


@intrinsic
def bits_of(_, x):  # noqa: D103
    return types.uint32(types.float32), lambda c, b, s, a: b.bitcast(a[0], ir.IntType(32))


def wide(x):
    """float32 of a voxel."""


@overload(wide, inline="always")
def _(x):
    if isinstance(x, types.Float):
        return lambda x: x
    return lambda x: float_of(u32(x) << u32(16))


@njit(inline="always")
def nearest(x):
    """The nearest bf16, and of a halfway case, one product in 65536, the larger."""
    return np.uint16((bits_of(x) + u32(0x8000)) >> u32(16))


@njit(inline="always")
def nearest_even(x):
    """The nearest bf16, as torch rounds: of sums of two bf16 many are halfway."""
    bits = bits_of(x)
    return np.uint16((bits + u32(0x7FFF) + ((bits >> u32(16)) & u32(1))) >> u32(16))


def narrowed(rounded: Callable) -> Callable:
    """What writes a float32 where voxels lie, as out[i, k] = x; of bf16 what it is `rounded` to."""

    def put(x, out, i, k):
        """See `narrowed`."""

    @overload(put, inline="always")
    def _(x, out, i, k):
        def wide_put(x, out, i, k):
            out[i, k] = x

        def narrow_put(x, out, i, k):
            out[i, k] = rounded(x)

        return wide_put if isinstance(out.dtype, types.Float) else narrow_put

    return put


put, put_even = narrowed(nearest), narrowed(nearest_even)


@njit(inline="always")
def exp(x):
    """e^x of a float32 to 2e-7, for |x| < 87: 2^n by its bits, the rest by its series."""
    t = min(max(x * f32(1.4426950408889634), f32(-126)), f32(126))
    n = t + f32(3 << 22)  # so large a number has the nearest whole one as its last bits
    r = t - (n - f32(3 << 22))
    p = f32(1.3333558146e-3) + r * (f32(1.5403530394e-4) + r * f32(1.5252733804e-5))
    p = f32(5.5504108665e-2) + r * (f32(9.6181291076e-3) + r * p)
    p = f32(1) + r * (f32(0.69314718056) + r * (f32(0.24022650696) + r * p))
    return float_of(bits_of(p) + (bits_of(n) << u32(23)))


@compiled
def affine(x, scale, shift, is_active, out):
    """out = x scale + shift, and its SiLU."""
    n, channels = x.shape
    for block in prange(-(-n // ROWS)):
        for i in range(block * ROWS, min(n, (block + 1) * ROWS)):
            if is_active:
                for k in range(channels):
                    v = wide(x[i, k]) * scale[k] + shift[k]
                    put(v / (f32(1) + exp(-v)), out, i, k)
            else:
                for k in range(channels):
                    put(wide(x[i, k]) * scale[k] + shift[k], out, i, k)


@compiled
def sums(made, out, is_moved, is_added, centre):
    """Sums of x - centre and of its square, of each block: [blocks, 2, C].

    x is made; or, where that is moved there, out = made, or out + made.
    """
    n, channels = out.shape
    parts = np.zeros((-(-n // ROWS), 2, channels), f32)
    for block in prange(len(parts)):
        s, q = parts[block, 0], parts[block, 1]
        for i in range(block * ROWS, min(n, (block + 1) * ROWS)):
            for k in range(channels):
                v = wide(made[i, k])
                if is_added:
                    v += wide(out[i, k])
                if is_moved:
                    put_even(v, out, i, k)
                    v = wide(out[i, k])
                d = v - centre[k]
                s[k] += d
                q[k] += d * d
    return parts


@compiled
def affine_backward(g, x, scale, shift, is_active, out):
    """out = g silu'(x scale + shift); sums of out x and of out, of each block: [blocks, 2, C]."""
    n, channels = x.shape
    parts = np.zeros((-(-n // ROWS), 2, channels), f32)
    for block in prange(len(parts)):
        s, q = parts[block, 0], parts[block, 1]
        for i in range(block * ROWS, min(n, (block + 1) * ROWS)):
            for k in range(channels):
                there = wide(x[i, k])
                given = wide(g[i, k])
                if is_active:
                    v = there * scale[k] + shift[k]
                    share = f32(1) / (f32(1) + exp(-v))
                    given *= share * (f32(1) + v * (f32(1) - share))
                put(given, out, i, k)
                s[k] += given * there
                q[k] += given
    return parts


@compiled
def combined(g, x, a, b, c):
    """g = a g + b x + c."""
    n, channels = x.shape
    for block in prange(-(-n // ROWS)):
        for i in range(block * ROWS, min(n, (block + 1) * ROWS)):
            for k in range(channels):
                put(a[k] * wide(g[i, k]) + b[k] * wide(x[i, k]) + c[k], g, i, k)


@njit(inline="always")
def patch(x, i, y, z, out):
    """Voxels [i, y : y + 4, z : z + 4] of x [X, Y, Z, C], zero outside: out [4, 4, C]."""
    X, Y, Z, C = x.shape
    for a in range(4):
        for b in range(4):
            if 0 <= i < X and 0 <= y + a < Y and 0 <= z + b < Z:
                for k in range(C):
                    out[a, b, k] = x[i, y + a, z + b, k]
            else:
                for k in range(C):
                    out[a, b, k] = f32(0)


@compiled
def tiled(x, first, row, out):
    """See `to_tiles`; B' is (1 0 -1 0), (0 1 1 0), (0 -1 1 0), (0 1 0 -1)."""
    C, across = x.shape[3], (x.shape[2] + 1) // 2
    for t in prange(out.shape[1]):
        d, e = np.empty((4, 4, C), f32), np.empty((4, 4, C), f32)
        for i in range(out.shape[2]):
            patch(x, first + i, (row + t // across) * 2 - 1, t % across * 2 - 1, d)
            for b in range(4):
                for k in range(C):
                    e[0, b, k] = d[0, b, k] - d[2, b, k]
                    e[1, b, k] = d[1, b, k] + d[2, b, k]
                    e[2, b, k] = d[2, b, k] - d[1, b, k]
                    e[3, b, k] = d[1, b, k] - d[3, b, k]
            for a in range(4):
                for k in range(C):
                    out[4 * a, t, i, k] = e[a, 0, k] - e[a, 2, k]
                    out[4 * a + 1, t, i, k] = e[a, 1, k] + e[a, 2, k]
                    out[4 * a + 2, t, i, k] = e[a, 2, k] - e[a, 1, k]
                    out[4 * a + 3, t, i, k] = e[a, 1, k] - e[a, 3, k]


@compiled
def untiled(x, bias, row, out):
    """See `from_tiles`; A' is (1 1 1 0), (0 1 -1 -1)."""
    _, Y, Z, D = out.shape
    across = (Z + 1) // 2
    for t in prange(x.shape[2]):
        e = np.empty((2, 4, D), f32)
        y, z = (row + t // across) * 2, t % across * 2
        for i in range(len(x)):
            for b in range(4):
                for k in range(D):
                    p, q = x[i, 4 + b, t, k], x[i, 8 + b, t, k]
                    e[0, b, k] = x[i, b, t, k] + p + q
                    e[1, b, k] = p - q - x[i, 12 + b, t, k]
            for a in range(min(2, Y - y)):
                for k in range(D):
                    out[i, y + a, z, k] = e[a, 0, k] + e[a, 1, k] + e[a, 2, k] + bias[k]
                if z + 1 < Z:
                    for k in range(D):
                        out[i, y + a, z + 1, k] = e[a, 1, k] - e[a, 2, k] - e[a, 3, k] + bias[k]


@compiled
def tiled_gradient(g, row, out):
    """See `to_gradient_tiles`; A is (1 0), (1 1), (1 -1), (0 -1)."""
    _, Y, Z, D = g.shape
    across = (Z + 1) // 2
    for t in prange(out.shape[2]):
        d, e = np.zeros((2, 2, D), f32), np.empty((4, 2, D), f32)
        y, z = (row + t // across) * 2, t % across * 2
        for i in range(len(g)):
            for a in range(min(2, Y - y)):
                for b in range(min(2, Z - z)):
                    for k in range(D):
                        d[a, b, k] = g[i, y + a, z + b, k]
            for b in range(2):
                for k in range(D):
                    e[0, b, k] = d[0, b, k]
                    e[1, b, k] = d[0, b, k] + d[1, b, k]
                    e[2, b, k] = d[0, b, k] - d[1, b, k]
                    e[3, b, k] = -d[1, b, k]
            for a in range(4):
                for k in range(D):
                    out[i, 4 * a, t, k] = e[a, 0, k]
                    out[i, 4 * a + 1, t, k] = e[a, 0, k] + e[a, 1, k]
                    out[i, 4 * a + 2, t, k] = e[a, 0, k] - e[a, 1, k]
                    out[i, 4 * a + 3, t, k] = -e[a, 1, k]
