"""Passes over memory on a GPU: norm, SiLU and their statistics, the arithmetic of a group norm.

torch takes several passes for each, and some fifty kernels of a few numbers for the statistics of a
group norm, there and back: on a small grid launching them is what a GPU waits for. Triton compiles
these at their first call and keeps them on disk. Voxels are rows, [N, C]; arithmetic is float32. Sums are
taken of blocks of rows, and then of blocks, in an order that is always the same.
"""

from collections.abc import Callable
from functools import wraps

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096
"""Numbers that a program has at hand."""
BLOCKS = 1024
"""Blocks of rows at most, that sums are taken of."""


def launched(f: Callable) -> Callable:
    """A function whose kernels run where its first tensor is: Triton takes the current GPU."""

    @wraps(f)
    def run(x: Tensor, *args):
        with torch.cuda.device_of(x):
            return f(x, *args)

    return run


def mean_and_var(x: Tensor) -> Tensor:
    """See `norm_ops.mean_and_var`."""
    return measured(x, x, False, False)


def brought(made: Tensor, out: Tensor, is_added: bool) -> Tensor:
    """See `norm_ops.brought`."""
    return measured(made, out, True, is_added)


@launched
def measured(made: Tensor, out: Tensor, is_moved: bool, is_added: bool) -> Tensor:
    """Mean and unbiased variance of each channel of out, [2, C], once made was moved or added there."""
    N, C, rows, size = sizes(out)
    blocks = triton.cdiv(N, rows)
    parts, told = (out.new_empty(n, 2, C, dtype=torch.float32) for n in (blocks, 1))
    moments_of_blocks[(blocks,)](made, out, parts, N, C, rows, is_moved, is_added, **size)
    merged[(C,)](parts, told, N, C, rows, blocks, BLOCKS=triton.next_power_of_2(blocks))
    return told[0]


@launched
def grouped(told: Tensor, counts: Tensor, gamma: Tensor, groups: int, eps: float) -> Tensor:
    """See `norm_ops.grouped`."""
    slabs, _, C = told.shape
    out = told.new_empty(3, C)
    wide = {"SLABS": triton.next_power_of_2(slabs), "WIDE": triton.next_power_of_2(C // groups)}
    statistics_of_groups[(groups,)](told, counts, gamma, out, slabs, C, C // groups, eps, **wide)
    return out


@launched
def normalise(
    x: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, is_active: bool, out: Tensor
) -> None:
    """See `norm_ops.normalise`."""
    N, C, _, size = sizes(x)
    programs = (triton.cdiv(N, size["ROWS"]),)
    affine[programs](x, mean, scale, beta, out, N, C, is_active, **size)


@launched
def normalise_backward(
    g: Tensor, x: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, is_active: bool, out: Tensor
) -> Tensor:
    """See `norm_ops.normalise_backward`."""
    N, C, rows, size = sizes(x)
    blocks = triton.cdiv(N, rows)
    parts = x.new_empty(blocks, 2, C, dtype=torch.float32)
    affine_backward[(blocks,)](g, x, mean, scale, beta, out, parts, N, C, rows, is_active, **size)
    return parts.sum(0)


@launched
def shares(sums: Tensor, stats: Tensor, gamma: Tensor, groups: int, eps: float, n: int) -> Tensor:
    """See `norm_ops.shares`."""
    C = sums.shape[1]
    out, wide = sums.new_empty(3, C), triton.next_power_of_2(C // groups)
    shares_of_groups[(groups,)](sums, stats, gamma, out, C, C // groups, n, eps, WIDE=wide)
    return out


@launched
def combine(g: Tensor, x: Tensor, mean: Tensor, a: Tensor, b: Tensor, c: Tensor) -> None:
    """See `norm_ops.combine`."""
    N, C, _, size = sizes(x)
    combined[(triton.cdiv(N, size["ROWS"]),)](g, x, mean, a, b, c, N, C, **size)


def sizes(x: Tensor) -> tuple[int, int, int, dict[str, int]]:
    """Voxels, channels, rows of a block, and the tile of a program."""
    N, C = x.numel() // x.shape[1], x.shape[1]
    wide = triton.next_power_of_2(C)
    at_once = max(1, TILE // wide)
    blocks = min(BLOCKS, triton.cdiv(N, at_once))
    rows = triton.cdiv(triton.cdiv(N, blocks), at_once) * at_once
    return N, C, rows, {"ROWS": at_once, "WIDE": wide}


@triton.jit
def tile(first, N, C, ROWS: tl.constexpr, WIDE: tl.constexpr):
    """Places in memory of ROWS rows from the first on, and which of them there are."""
    row, column = first + tl.arange(0, ROWS), tl.arange(0, WIDE)
    inside = (row < N)[:, None] & (column < C)[None, :]
    return row.to(tl.int64)[:, None] * C + column[None, :], inside


@triton.jit
def across(values, C, WIDE: tl.constexpr):
    """A number of each channel, [1, WIDE]."""
    column = tl.arange(0, WIDE)
    return tl.load(values + column, mask=column < C, other=0.0).to(tl.float32)[None, :]


@triton.jit
def affine(
    x, mean, scale, beta, out, N, C, ACTIVE: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr
):
    """out = scale (x - mean) + beta, and its SiLU."""
    at, inside = tile(tl.program_id(0) * ROWS, N, C, ROWS, WIDE)
    v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    y = (v - across(mean, C, WIDE)) * across(scale, C, WIDE) + across(beta, C, WIDE)
    if ACTIVE:
        y = y / (1 + tl.exp(-y))
    tl.store(out + at, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def affine_backward(
    g, x, mean, scale, beta, out, parts, N, C, rows,
    ACTIVE: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """out = g silu'(scale (x - mean) + beta); sums of out (x - mean) and of out, block by block."""
    block = tl.program_id(0)
    first = block * rows
    m, a, b = across(mean, C, WIDE), across(scale, C, WIDE), across(beta, C, WIDE)
    by_x = tl.zeros((ROWS, WIDE), tl.float32)
    by_one = tl.zeros((ROWS, WIDE), tl.float32)
    for start in range(0, rows, ROWS):
        at, inside = tile(first + start, N, C, ROWS, WIDE)
        given = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
        v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - m
        if ACTIVE:
            y = v * a + b
            s = 1 / (1 + tl.exp(-y))
            given *= s * (1 + y * (1 - s))
        made = given.to(out.dtype.element_ty)
        tl.store(out + at, made, mask=inside)
        given = tl.where(inside, given, 0.0)
        by_x += given * v
        by_one += given
    column = tl.arange(0, WIDE)
    tl.store(parts + block * 2 * C + column, tl.sum(by_x, 0), mask=column < C)
    tl.store(parts + (block * 2 + 1) * C + column, tl.sum(by_one, 0), mask=column < C)


@triton.jit
def combined(g, x, mean, a, b, c, N, C, ROWS: tl.constexpr, WIDE: tl.constexpr):
    """g = a g + b (x - mean) + c."""
    at, inside = tile(tl.program_id(0) * ROWS, N, C, ROWS, WIDE)
    given = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
    v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - across(mean, C, WIDE)
    y = given * across(a, C, WIDE) + v * across(b, C, WIDE) + across(c, C, WIDE)
    tl.store(g + at, y.to(g.dtype.element_ty), mask=inside)


@triton.jit
def moments_of_blocks(
    made, out, parts, N, C, rows,
    MOVED: tl.constexpr, ADDED: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squares about it of each block, shifted by its first row; out is written first."""
    block = tl.program_id(0)
    first = block * rows
    shift = across(made + first.to(tl.int64) * C, C, WIDE)
    if ADDED:
        shift += across(out + first.to(tl.int64) * C, C, WIDE)
        tl.debug_barrier()  # that row is written below, perhaps by a thread that is ahead
    total = tl.zeros((ROWS, WIDE), tl.float32)
    squares = tl.zeros((ROWS, WIDE), tl.float32)
    for start in range(0, rows, ROWS):
        at, inside = tile(first + start, N, C, ROWS, WIDE)
        v = tl.load(made + at, mask=inside, other=0.0).to(tl.float32)
        if ADDED:
            v += tl.load(out + at, mask=inside, other=0.0).to(tl.float32)
        if MOVED:
            moved = v.to(out.dtype.element_ty)
            tl.store(out + at, moved, mask=inside)
            v = moved.to(tl.float32)
        v = tl.where(inside, v - shift, 0.0)
        total += v
        squares += v * v
    count = tl.minimum(rows, N - first).to(tl.float32)
    sums, column = tl.sum(total, 0), tl.arange(0, WIDE)
    mean = sums / count
    spread = tl.sum(squares, 0) - sums * mean
    shift = tl.sum(shift, 0)  # [WIDE]
    tl.store(parts + block * 2 * C + column, shift + mean, mask=column < C)
    tl.store(parts + (block * 2 + 1) * C + column, spread, mask=column < C)


@triton.jit
def merged(parts, told, N, C, rows, blocks, BLOCKS: tl.constexpr):
    """Mean and unbiased variance of a channel from those of its blocks (Chan et al. 1983, eq. 2.1)."""
    channel, block = tl.program_id(0), tl.arange(0, BLOCKS)
    there = block < blocks
    mean = tl.load(parts + block * 2 * C + channel, mask=there, other=0.0)
    spread = tl.load(parts + (block * 2 + 1) * C + channel, mask=there, other=0.0)
    count = tl.where(there, tl.minimum(rows, N - block * rows), 0).to(tl.float32)
    origin = tl.load(parts + channel)
    centre = origin + tl.sum(count * tl.where(there, mean - origin, 0.0)) / N
    off = tl.where(there, mean - centre, 0.0)
    tl.store(told + channel, centre)
    tl.store(told + C + channel, tl.sum(spread + count * off * off) / tl.maximum(N - 1, 1))


@triton.jit
def statistics_of_groups(
    told, counts, gamma, out, slabs, C, width, eps, SLABS: tl.constexpr, WIDE: tl.constexpr
):
    """Of a group, from its channels' in each slab: mean, variance and gamma / sqrt(variance + eps)."""
    k, slab = tl.arange(0, WIDE), tl.arange(0, SLABS)
    channel, one = tl.program_id(0) * width + k, k < width
    there = (slab < slabs)[:, None] & one[None, :]
    at = slab[:, None] * 2 * C + channel[None, :]
    mean = tl.load(told + at, mask=there, other=0.0)
    var = tl.load(told + C + at, mask=there, other=0.0)
    count = tl.load(counts + slab, mask=slab < slabs, other=0.0)
    total = tl.sum(count) * width
    origin = tl.load(told + tl.program_id(0) * width)
    each = count[:, None]
    centre = origin + tl.sum(tl.where(there, each * (mean - origin), 0.0)) / total
    off = mean - centre
    spread = tl.sum(tl.where(there, each * off * off + (each - 1) * var, 0.0)) / total
    scale = tl.load(gamma + channel, mask=one, other=0.0).to(tl.float32) / tl.sqrt(spread + eps)
    zeros = tl.zeros((WIDE,), tl.float32)
    tl.store(out + channel, zeros + centre, mask=one)
    tl.store(out + C + channel, zeros + spread, mask=one)
    tl.store(out + 2 * C + channel, scale, mask=one)


@triton.jit
def shares_of_groups(sums, stats, gamma, out, C, width, n, eps, WIDE: tl.constexpr):
    """See `norm_ops.shares`."""
    k = tl.arange(0, WIDE)
    channel, one = tl.program_id(0) * width + k, k < width
    by_x = tl.load(sums + channel, mask=one, other=0.0)
    by_one = tl.load(sums + C + channel, mask=one, other=0.0)
    r = 1 / tl.sqrt(tl.load(stats + C + channel, mask=one, other=1.0) + eps)
    weight = tl.load(gamma + channel, mask=one, other=0.0).to(tl.float32)
    by_gamma = by_x * r
    size = n * width
    gx, g1 = tl.sum(weight * by_gamma) / size, tl.sum(weight * by_one) / size
    tl.store(out + channel, by_gamma, mask=one)
    tl.store(out + C + channel, -gx * r * r, mask=one)
    tl.store(out + 2 * C + channel, -g1 * r, mask=one)
