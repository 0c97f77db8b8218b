"""The grid doubled inside a convolution: 8 products a voxel instead of 27.

Of the three taps of a row two fall on the same repeated voxel, so doubling and convolving is 8
convolutions of 2 x 2 x 2 at the coarse grid, the phases, an eighth of the output each.
"""

import torch
import torch.nn.functional as nnf
from einops import rearrange
from torch import Tensor
from torch.autograd.function import once_differentiable

from vol3d.nn.custom_ops import there
from vol3d.nn.norm_ops import exact
from vol3d.nn.slab_conv import Totals, planes_of
from vol3d.nn.slab_inference import (
    Conv,
    conv_in,
    conv_slabs,
    double_into,
    doubled,
    doubled_cuts,
    empty,
)
from vol3d.nn.slab_layers import SlabConv, as_laid, conv_backward, laid
from vol3d.nn.slab_volume import Cuts, Slabbed

# Of the two voxels that one becomes along an axis, the first sees taps (0 1)(2), the second (0)(1 2).
ONE_AXIS = torch.tensor([[[1.0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]])
PHASES = torch.einsum("pai,qbj,rck->pqrabcijk", ONE_AXIS, ONE_AXIS, ONE_AXIS).reshape(8, 8, 27)
"""Which of 27 taps each of 8 phases adds up to each of its own 8."""


def up_conv(
    x: Tensor | Slabbed, conv: Conv, splits: int | None = None, cuts: Cuts | None = None
) -> Tensor | Slabbed:
    """Voxels doubled along each axis, then a 3 x 3 x 3 convolution: [B, C, X, ..] -> [B, D, 2X, ..].

    `cuts` are of the output in slabs, of even lengths, if they are to be others than usual.

    The doubled volume exists on a small grid alone, where the phases' weights would be more than it.
    """
    weight, bias = conv
    if isinstance(x, Slabbed) and x.planes * x.last[0, 0, 0].numel() < 1024:
        fine = nnf.interpolate(x.whole(), scale_factor=2.0, mode="nearest")
        return conv_in(laid(fine), weight, bias, splits, cuts)
    if isinstance(x, Tensor) and x[0, 0].numel() < 1024:
        fine = nnf.interpolate(x, scale_factor=2.0, mode="nearest")
        return SlabConv.apply(laid(fine), weight, bias, (1, (1, 1), splits))
    weight = phases_of(weight)
    if isinstance(x, Slabbed):
        return doubled(x, weight, bias, splits, cuts)
    return UpConv.apply(laid(x), weight, bias, splits)


def phases_of(weight: Tensor) -> Tensor:
    """[D, C, 3, 3, 3] -> [8 D, C, 2, 2, 2]: the sums of taps that fall on a voxel, phase by phase.

    Z varies fastest: phases of X before those of Y.
    """
    taps = rearrange(weight, "d c i j k -> d (i j k) c")
    phases = there(PHASES, taps).flatten(0, 1) @ taps
    return rearrange(phases, "d (p i j k) c -> (p d) c i j k", p=8, i=2, j=2)


class UpConv(torch.autograd.Function):
    """See `up_conv`; the weight is that of the 8 phases, [8 D, C, 2, 2, 2]."""

    @staticmethod
    def forward(ctx, x, phases, bias, splits):
        """Slab by slab of the coarse grid."""
        y = empty(x, (len(x), len(bias), *(2 * n for n in x.shape[2:])))
        conv = phases.to(x.dtype), bias.to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            for image, out in zip(x.split(1), y.split(1), strict=True):
                slabbed = Slabbed.of(image, [(0, x.shape[2])])
                for i, j in doubled_cuts(slabbed, len(bias), splits):
                    double_into(out[:, :, 2 * i : 2 * j], slabbed.between(i - 1, j + 1), conv)
        ctx.save_for_backward(x, phases)
        ctx.splits = splits
        return y

    @staticmethod
    @once_differentiable
    @as_laid
    def backward(ctx, gy):
        """As 8 convolutions of 2 x 2 x 2, of which each slab of windows gathers its voxels."""
        (x, phases), splits = ctx.saved_tensors, ctx.splits
        as_products = x.device.type == "cpu" and x.dtype == exact(x.dtype)
        w, gy, gx, totals = phases.to(x.dtype), laid(gy, x.dtype), torch.zeros_like(x), Totals()
        size = [n + 1 for n in x.shape[2:]]
        for image, g, grad in zip(x.split(1), gy.split(1), gx.split(1), strict=True):
            for i, j in conv_slabs(size, len(w), x, splits):
                slab = empty(x, (1, len(w), j - i, *size[1:])).zero_()
                for mine, theirs in phases_in(slab, g, i):
                    mine.copy_(theirs)
                if as_products:
                    by_weight, by_bias = windows_backward(slab, image, grad, i, w)
                else:
                    by_weight, by_bias = conv_backward(slab, image, grad, i, w, 1, (1, 1))
                totals.add(by_weight, by_bias.view(8, -1).sum(0))
        return gx, *totals.sums, None


def phases_in(slab: Tensor, fine: Tensor, i: int):
    """Where the 8 phases of coarse windows [i, ...) lie in the fine volume: pairs of views.

    Window w of an axis covers coarse voxels w - 1 and w; its phase 0 is fine voxel 2 w - 1, and its
    phase 1 fine voxel 2 w.
    """
    n, size = len(fine[0]), [s // 2 for s in fine.shape[2:]]  # channels; coarse voxels an axis
    for p in (0, 1):
        for q in (0, 1):
            for r in (0, 1):
                k = 4 * p + 2 * q + r
                first, last = max(i, 1 - p), min(i + slab.shape[2], size[0] + 1 - p)
                if last <= first:
                    continue
                mine = slab[:, k * n : (k + 1) * n, first - i : last - i]
                mine = mine[..., 1 - q : size[1] + 1 - q, 1 - r : size[2] + 1 - r]
                start = 2 * first - 1 + p
                theirs = fine[:, :, start : start + 2 * (last - first) : 2, 1 - q :: 2, 1 - r :: 2]
                yield mine, theirs


def windows_backward(g: Tensor, x: Tensor, gx: Tensor, i: int, w: Tensor) -> tuple[Tensor, Tensor]:
    """See `conv_backward`, of 2 x 2 x 2 taps with a zero around, in float32 or float64 on a CPU.

    Windows and voxels are rows of one padded grid, on which a tap is a shift: so each of the 8 is a
    product of matrices that lie in memory, three times as fast as oneDNN's gradients.
    """
    D, n, (Y, Z), C = g.shape[1], g.shape[2], (s + 1 for s in g.shape[3:]), x.shape[1]
    given = nnf.pad(rearrange(g, "1 d x y z -> x y z d"), (0, 0, 0, 1, 0, 1)).view(-1, D)
    seen, back = x.new_zeros(2, (n + 1) * Y * Z + Z + 1, C)
    inside = seen[: (n + 1) * Y * Z].view(n + 1, Y, Z, C)[:, 1:-1, 1:-1]
    inside.copy_(rearrange(planes_of(x, i - 1, i + n), "1 c x y z -> x y z c"))
    by_tap = x.new_empty(8, D, C)
    for k, tap in enumerate(rearrange(w, "d c i j k -> (i j k) d c")):
        shift = (k // 4 * Y + k // 2 % 2) * Z + k % 2
        rows = slice(shift, shift + len(given))
        torch.mm(given.T, seen[rows], out=by_tap[k])
        back[rows].addmm_(given, tap)
    lo, hi = max(i - 1, 0), min(i + n, x.shape[2])
    back = back[: (n + 1) * Y * Z].view(n + 1, Y, Z, C)[lo - i + 1 : hi - i + 1, 1:-1, 1:-1]
    gx[0, :, lo:hi] += rearrange(back, "x y z c -> c x y z")
    return rearrange(by_tap, "(i j k) d c -> d c i j k", i=2, j=2), given.sum(0)
