"""The slab-wise layers where no gradient is wanted: slabs in, slabs out.

Each measures its output for the norm that may come next, while it is in the cache, and may write it
over its input. What they have in common with the layers that have a gradient (`nn/slab_layers.py`) is
here too.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import wraps

import torch
import torch.nn.functional as nnf
from einops import rearrange
from torch import Tensor

from vol3d.nn.norm_ops import conv3d, exact
from vol3d.nn.slab_conv import Layer, Norm, pairs, planes_of, slabs, widened
from vol3d.nn.slab_volume import LAYOUT, Cuts, Slabbed, flat, shaped

Affine = tuple[Tensor, Tensor, int | None, float]
"""A norm's weight, bias, groups and epsilon; groups None is a channel norm."""
Conv = tuple[Tensor, Tensor]
"""A convolution's weight and bias."""


def as_typed(f: Callable) -> Callable:
    """A function whose tensors keep the types that they have, whatever autocast its caller is under."""

    @wraps(f)
    def run(x: Slabbed, *args, **named):
        with torch.autocast(x.last.device.type, enabled=False):
            return f(x, *args, **named)

    return run


@as_typed
def residual(
    x: Slabbed, norm1: Affine, conv1: Conv, norm2: Affine, conv2: Conv, shortcut: Conv | None
) -> Slabbed:
    """See `slab_layers.residual`; the input is written over unless it is kept."""
    first, second = Layer.of(x.last, *conv1), Layer.of(x.last, *conv2)
    if x.is_kept:
        return beside(x, norm1, first, norm2, second, shortcut)
    h, straight, y = Slabbed(), [], Slabbed()
    known = Norm.of(x, *norm1)
    for slab, spare, (i, j, made) in zip(x.slabs, x.spare, first.forward(x, known), strict=True):
        if shortcut is None:
            straight.append(x.between(i, j))
        else:
            # x makes room for both: its 128 channels for 64 of the shortcut and 64 of h, say.
            wide, room = conv3d(x.between(i, j), *typed(slab, shortcut)), flat(slab)
            place = shaped(room, wide)
            straight.append(wide if place is None else place.copy_(wide))
            left = room[wide.numel() :]
            spare = spare if shaped(left, made) is None else left
        h.bring(made, spare)
    x.beside = None
    known = Norm.of(h, *norm2)
    for piece, left, (_, _, made) in zip(straight, h.slabs, second.forward(h, known), strict=True):
        y.add(made, piece, spare=flat(left))
    return y


def beside(
    x: Slabbed, norm1: Affine, first: Layer, norm2: Affine, second: Layer, shortcut: Conv | None
) -> Slabbed:
    """See `residual`; the output takes the place of what lies between the convolutions."""
    h, y = Slabbed(), Slabbed()
    for _, _, made in first.forward(x, Norm.of(x, *norm1)):
        h.append(made)
    known = Norm.of(h, *norm2)
    for piece, place, (_, _, made) in zip(x.slabs, h.slabs, second.forward(h, known), strict=True):
        straight = piece if shortcut is None else conv3d(piece, *typed(piece, shortcut))
        y.append(torch.add(made, straight, out=place))
    return y


@as_typed
def merge(x: Slabbed, skip: Slabbed, is_added: bool) -> Slabbed:
    """See `blocks.merge`; the mean is written over x, and what follows over the skip."""
    if not is_added:
        x.put_beside(skip)
        return x
    y = Slabbed()
    for slab, other in zip(x.slabs, skip.slabs, strict=True):
        y.append(slab.add_(other).div_(2), spare=flat(other))
    return y


@as_typed
def norm_conv(x: Slabbed, norm: Affine, conv: Conv, *, is_active: bool) -> Tensor:
    """See `slab_layers.norm_conv`."""
    weight, bias = (t.to(exact(x.last.dtype)) for t in conv)
    return last(x, Norm.of(x, *norm), Layer(weight, bias, is_active))


def last(x: Slabbed, norm: Norm, layer: Layer) -> Tensor:
    """All of a layer's output, in the type of its weight."""
    if len(layer.weight) == 1 and x.last.device.type == "cpu":
        return layer.to_one_channel(x, norm)
    y = Slabbed()
    for _, _, made in layer.forward(x, norm):
        y.append(made, measured=False)
    return y.whole()


def conv_in(
    x: Tensor, weight: Tensor, bias: Tensor, splits: int | None = None, cuts: Cuts | None = None
) -> Slabbed:
    """See `slab_layers.conv_in`; x is one image in the type to compute in."""
    x, weight = widened(x, weight)
    return strided(Slabbed.of(x, [(0, x.shape[2])]), (weight, bias), 1, (1, 1), splits, cuts)


@as_typed
def strided(
    x: Slabbed,
    conv: Conv,
    stride: int,
    pad: tuple[int, int],
    splits: int | None,
    cuts: Cuts | None = None,
) -> Slabbed:
    """A convolution with zeros at the low and the high end of each axis."""
    y = Slabbed()
    for _, _, made in strided_slabs(x, conv, stride, pad, splits, cuts):
        y.append(made)
    return y


def strided_slabs(
    x: Slabbed,
    conv: Conv,
    stride: int,
    pad: tuple[int, int],
    splits: int | None,
    cuts: Cuts | None = None,
) -> Iterator[tuple[int, int, Tensor]]:
    """Planes i to j of the output, slab after slab; `cuts` if they are to be others than usual."""
    w, b = typed(x.last, conv)
    size = [(n + sum(pad) - w.shape[2]) // stride + 1 for n in (x.planes, *x.last.shape[3:])]
    for i, j in cuts or conv_slabs(size, len(w), x.last, splits):
        yield i, j, conv3d(seen_by(x, i, j, w, stride, pad), w, b, stride)


@as_typed
def doubled(
    x: Slabbed, phases: Tensor, bias: Tensor, splits: int | None, cuts: Cuts | None = None
) -> Slabbed:
    """See `upsample_conv.up_conv`; phases as `UpConv` has them."""
    x.spare.clear()
    _, Y, Z = (2 * n for n in x.shape[2:])
    y = Slabbed()
    conv = typed(x.last, (phases, bias))
    mine = [(i // 2, j // 2) for i, j in cuts or ()] or doubled_cuts(x, len(bias), splits)
    for i, j in mine:
        out = empty(x.last, (1, len(bias), 2 * (j - i), Y, Z))
        double_into(out, x.between(i - 1, j + 1), conv)
        y.append(out)
    return y


@as_typed
def met(x: Slabbed, conv: Conv, size_of: Slabbed) -> Slabbed:
    """Voxels doubled, the last ones once only where `size_of` is odd, and a 3 x 3 x 3 convolution."""
    (w, b), y, (X, Y, Z) = typed(x.last, conv), Slabbed(), size_of.shape[2:]
    for i, j in size_of.cuts:
        first, last = max(i - 1, 0) // 2, (min(j + 1, X) + 1) // 2  # coarse planes
        fine = nnf.interpolate(x.between(first, last), scale_factor=2.0, mode="nearest")
        fine = fine[:, :, : X - 2 * first, :Y, :Z]
        y.append(conv3d(planes_of(fine, i - 1 - 2 * first, j + 1 - 2 * first), w, b, pad=1))
    return y


def doubled_cuts(x: Slabbed, channels: int, splits: int | None) -> Cuts:
    """Slabs of the coarse grid; what comes of one is twice as large as other slabs."""
    plane = 4 * channels * x.last[0, 0, 0].numel() * x.last.element_size()
    return slabs(x.planes, plane, splits, x.last.device.type)


def double_into(out: Tensor, seen: Tensor, conv: Conv) -> None:
    """The fine slab of a coarse one, both phases of Z at once.

    Args:
        out: [1, D, 2 n, 2 Y, 2 Z], written.
        seen: its n planes and one on either side, [1, C, n + 2, Y, Z].
        conv: the weight of the phases, [8 D, C, 2, 2, 2], and the bias, [D].
    """
    phases, bias = conv
    n, Y, _ = (size // 2 for size in out.shape[2:])
    seen, bias = nnf.pad(seen, (1, 1, 1, 1)), bias.repeat(2)
    for k, weight in enumerate(phases.chunk(4)):
        p, q = 1 - k // 2, 1 - k % 2  # 1: the odd voxels of X, of Y
        weight = weight.contiguous(memory_format=LAYOUT)
        made = conv3d(seen[:, :, p : p + n + 1], weight, bias)[:, :, :, q : q + Y]
        # Of window w phase 0 is fine voxel 2 w - 1 and phase 1 the next: so they lie in memory too.
        fine = rearrange(made, "1 (r d) x y z -> 1 d x y (z r)", r=2)
        out[:, :, p::2, q::2] = fine[..., 1:-1]


def cut(x: Tensor, splits: int | None = None, widest: int = 0) -> Slabbed:
    """An image in slabs, measured; `widest` channels a layer gives, if more than x has."""
    widest = max(widest, x.shape[1]) * x[0, 0, 0].numel() * x.element_size()
    return Slabbed.of(x, slabs(x.shape[2], widest, splits, x.device.type), measured=True)


def level_cuts(size: Sequence[int], channels: int, x: Tensor) -> Cuts:
    """Slabs for all layers at a level of a U-Net, whose way up is wider than its way down."""
    return pairs(size[0], 2 * channels * size[1] * size[2] * x.element_size(), x.device.type)


def conv_slabs(size: list[int], channels: int, x: Tensor, splits: int | None) -> Cuts:
    """Slabs of the output of a convolution."""
    plane = max(channels * size[1] * size[2], x[0, :, 0].numel()) * x.element_size()
    return slabs(size[0], plane, splits, x.device.type)


def seen_by(x: Slabbed, i: int, j: int, w: Tensor, stride: int, pad: tuple[int, int]) -> Tensor:
    """What output planes [i, j) of a convolution see of x, zeros around it included."""
    first = i * stride - pad[0]
    slab = x.between(first, first + (j - i - 1) * stride + w.shape[2])
    return nnf.pad(slab, (*pad, *pad, 0, 0))


def typed(x: Tensor, conv: Conv) -> Conv:
    """A convolution in the type of x."""
    return conv[0].to(x.dtype), conv[1].to(x.dtype)


def empty(x: Tensor, shape: tuple[int, ...], kind: torch.dtype | None = None) -> Tensor:
    """Memory for voxels where x is, in its type or another."""
    return torch.empty(shape, dtype=kind or x.dtype, device=x.device, memory_format=LAYOUT)
