"""The slab-wise layers as autograd knows them: residual block, last layer, strided convolution.

What is kept for the backward pass is their input; of a residual block also what lies between its two
convolutions, unless that is to be computed again (a sixth of the block's time more).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torch.autograd.function import once_differentiable

from vol3d.nn import slab_inference as inference
from vol3d.nn.norm_ops import conv3d, exact
from vol3d.nn.slab_conv import Layer, Norm, Totals, slabs, weight_gradient, widened
from vol3d.nn.slab_inference import (
    Affine,
    Conv,
    conv_slabs,
    cut,
    empty,
    seen_by,
    strided_slabs,
)
from vol3d.nn.slab_volume import LAYOUT, Slabbed


def residual(
    x: Tensor | Slabbed,
    norm1: Affine,
    conv1: Conv,
    norm2: Affine,
    conv2: Conv,
    shortcut: Conv | None,
    *,
    keep: bool = True,
    splits: int | None = None,
) -> Tensor | Slabbed:
    """shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x)))))), [B, C, X, Y, Z] -> [B, D, X, Y, Z].

    Args:
        x: the input.
        norm1: the first group norm.
        conv1: a 3 x 3 x 3 convolution.
        norm2: the second group norm.
        conv2: another convolution.
        shortcut: a 1 x 1 x 1 convolution; None adds x itself.
        keep: what lies between the convolutions, for the backward pass.
        splits: slabs; None takes as many as suit the device.
    """
    if isinstance(x, Slabbed):
        return inference.residual(x, norm1, conv1, norm2, conv2, shortcut)
    weights = (*norm1[:2], *conv1, *norm2[:2], *conv2, *(shortcut or (None, None)))
    training = torch.is_grad_enabled()  # within a Function it is always off
    return Residual.apply(laid(x), *weights, (norm1[2:], norm2[2:], keep, splits, training))


def conv_in(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A network's first layer, a 3 x 3 x 3 convolution."""
    return nnf.conv3d(*widened(laid(x), weight), bias, padding=1)


def norm_conv(
    x: Tensor | Slabbed, norm: Affine, conv: Conv, *, is_active: bool, splits: int | None = None
) -> Tensor:
    """A network's last layer, conv(norm(x)) with a SiLU between or not; float32 from bf16 voxels."""
    if isinstance(x, Slabbed):
        return inference.norm_conv(x, norm, conv, is_active=is_active)
    return NormConv.apply(laid(x), *norm[:2], *conv, (norm[2:], is_active, splits))


def down_conv(x: Tensor | Slabbed, conv: Conv, splits: int | None = None) -> Tensor | Slabbed:
    """A 3 x 3 x 3 convolution with stride 2, zeros at the high end: half of each axis."""
    if isinstance(x, Slabbed):
        return inference.strided(x, conv, 2, (0, 1), splits)
    return SlabConv.apply(laid(x), *conv, (2, (0, 1), splits))


def as_laid(backward: Callable) -> Callable:
    """A backward pass in the types that the tensors have, whatever autocast its caller is under."""

    def run(ctx, g):
        with torch.autocast(g.device.type, enabled=False):
            return backward(ctx, g)

    return run


class Residual(torch.autograd.Function):
    """See `residual`."""

    @staticmethod
    def forward(ctx, x, g1, b1, w1, c1, g2, b2, w2, c2, ws, cs, how):
        """Image by image; in inference the output takes the place of what lies between."""
        norm1, norm2, keep, splits, training = how
        first, second = Layer.of(x, w1, c1), Layer.of(x, w2, c2)
        ys, stats, between = [], [], []
        with torch.autocast(x.device.type, enabled=False):
            for image in x.split(1):
                slabbed = cut(image, splits, len(w1))
                n1 = Norm.of(slabbed, g1, b1, *norm1)
                h, measured = run(first, slabbed, n1)
                n2 = Norm.of(measured, g2, b2, *norm2)
                # Slabs of its own: in float32 and one thread torch's convolution of small ones
                # unfolds them, and takes ten times their memory.
                slabbed = Slabbed.of(h, second.cuts(h, splits))
                y = h
                if training and len(slabbed.cuts) > 1:
                    y = new_like(image, x.shape[2], len(w2))
                for i, j, slab in second.forward(slabbed, n2):
                    straight = image[:, :, i:j]
                    if ws is not None:
                        straight = conv3d(straight, ws.to(x.dtype), cs.to(x.dtype))
                    if len(slabbed.cuts) == 1:
                        y = slab.add_(straight)
                    else:
                        torch.add(slab, straight, out=y[:, :, i:j])
                ys.append(y)
                stats += [n1.stats, n2.stats]
                between += [h] if training and keep else []
        layers = first.weight, first.bias, second.weight, second.bias  # in the type of x
        ctx.save_for_backward(x, g1, b1, g2, b2, ws, *layers, *stats, *between)
        ctx.how = how
        return together(ys)

    @staticmethod
    @once_differentiable
    @as_laid
    def backward(ctx, gy):
        """Image by image; gradients of weights are summed."""
        x, g1, b1, g2, b2, ws, w1, c1, w2, c2, *rest = ctx.saved_tensors
        norm1, norm2, keep, splits, _ = ctx.how
        first, second = Layer(w1, c1), Layer(w2, c2)
        kind, gy, gxs, totals = exact(x.dtype), laid(gy, x.dtype), [], Totals()
        for n, (image, g) in enumerate(zip(x.split(1), gy.split(1), strict=True)):
            n1 = Norm(rest[2 * n], g1.to(kind), b1.to(kind), *norm1)
            n2 = Norm(rest[2 * n + 1], g2.to(kind), b2.to(kind), *norm2)
            slabbed = Slabbed.of(image, first.cuts(image, splits))
            h = rest[2 * len(x) + n] if keep else run(first, slabbed, n1, measured=False)[0]
            gh, *grads2 = second.backward(g, h, n2, splits)
            del h
            gx, *grads1 = first.backward(gh, image, n1, splits)
            del gh
            totals.add(*grads1, *grads2, *straight_backward(g, image, ws, gx, splits))
            gxs.append(gx)
        gw1, gc1, gg1, gb1, gw2, gc2, gg2, gb2, *gs = totals.sums
        gs = gs or [None, None]
        return together(gxs), gg1, gb1, gw1, gc1, gg2, gb2, gw2, gc2, *gs, None


class NormConv(torch.autograd.Function):
    """See `norm_conv`."""

    @staticmethod
    def forward(ctx, x, gamma, beta, weight, bias, how):
        """Image by image, the product in float32."""
        norm, is_active, splits = how
        kind = exact(x.dtype)
        layer = Layer(weight.to(kind), bias.to(kind), is_active)
        ys, stats = [], []
        with torch.autocast(x.device.type, enabled=False):
            for image in x.split(1):
                slabbed = cut(image, splits)
                n = Norm.of(slabbed, gamma, beta, *norm)
                ys.append(inference.last(slabbed, n, layer))
                stats.append(n.stats)
        ctx.save_for_backward(x, gamma, beta, weight, bias, *stats)
        ctx.how = how
        return together(ys)

    @staticmethod
    @once_differentiable
    @as_laid
    def backward(ctx, gy):
        """Image by image; gradients of weights are summed."""
        x, gamma, beta, weight, bias, *stats = ctx.saved_tensors
        norm, is_active, splits = ctx.how
        layer = Layer(weight.to(x.dtype), bias.to(x.dtype), is_active)
        kind, gy, gxs, totals = exact(x.dtype), laid(gy, x.dtype), [], Totals()
        for n, (image, g) in enumerate(zip(x.split(1), gy.split(1), strict=True)):
            known = Norm(stats[n], gamma.to(kind), beta.to(kind), *norm)
            gx, *grads = layer.backward(g, image, known, splits)
            gxs.append(gx)
            totals.add(*grads)
        gw, gb, ggamma, gbeta = totals.sums
        return together(gxs), ggamma, gbeta, gw, gb, None


class SlabConv(torch.autograd.Function):
    """A convolution with zeros at the ends of each axis, slab by slab.

    `how`: stride, (zeros at the low end, zeros at the high end), and splits.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, how):
        """[B, C, X, Y, Z] -> [B, D, X', Y', Z']."""
        stride, pad, splits = how
        size = [(n + sum(pad) - weight.shape[2]) // stride + 1 for n in x.shape[2:]]
        y = empty(x, (len(x), len(bias), *size))
        with torch.autocast(x.device.type, enabled=False):
            for image, out in zip(x.split(1), y.split(1), strict=True):
                slabbed = Slabbed.of(image, [(0, x.shape[2])])
                for i, j, made in strided_slabs(slabbed, (weight, bias), stride, pad, splits):
                    out[:, :, i:j] = made
        ctx.save_for_backward(x, weight)
        ctx.how = how
        return y

    @staticmethod
    @once_differentiable
    @as_laid
    def backward(ctx, gy):
        """Slabs of the input overlap by what the kernel reaches over; there gradients add up."""
        (x, weight), (stride, pad, splits) = ctx.saved_tensors, ctx.how
        w, gy, gx, totals = weight.to(x.dtype), laid(gy, x.dtype), torch.zeros_like(x), Totals()
        for image, g, grad in zip(x.split(1), gy.split(1), gx.split(1), strict=True):
            for i, j in conv_slabs(g.shape[2:], len(w), x, splits):
                totals.add(*conv_backward(g[:, :, i:j], image, grad, i, w, stride, pad))
        return gx, *totals.sums, None


def conv_backward(
    g: Tensor, x: Tensor, gx: Tensor, i: int, w: Tensor, stride: int, pad: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Add to gx what output planes [i, ...) give; the gradients of weight and bias."""
    whole = Slabbed.of(x, [(0, x.shape[2])])
    seen = seen_by(whole, i, i + g.shape[2], w, stride, pad)
    given, _, _ = torch.ops.aten.convolution_backward(
        g, seen, w, None, [stride] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1, [True, False, False]
    )
    first, (p, _), (_, _, _, Y, Z) = i * stride - pad[0], pad, x.shape
    lo, hi = max(first, 0), min(first + given.shape[2], x.shape[2])
    gx[:, :, lo:hi] += given[:, :, lo - first : hi - first, p : p + Y, p : p + Z]
    return weight_gradient(g, seen, w, stride)


def straight_backward(
    g: Tensor, x: Tensor, weight: Tensor | None, gx: Tensor, splits: int | None
) -> list[Tensor]:
    """Add the shortcut's gradient to gx, slab by slab; gradients of its weight and bias."""
    cuts = slabs(x.shape[2], max(g[:, :, 0].nbytes, x[:, :, 0].nbytes), splits, x.device.type)
    totals = Totals()
    for i, j in cuts:
        if weight is None:
            gx[:, :, i:j] += g[:, :, i:j]
            continue
        across = weight.to(x.dtype)
        gx[:, :, i:j] += conv3d(g[:, :, i:j], across.transpose(0, 1), None)
        totals.add(*weight_gradient(g[:, :, i:j], x[:, :, i:j], across))
    return totals.sums


def run(layer: Layer, x: Slabbed, norm: Norm, measured: bool = True) -> tuple[Tensor, Slabbed]:
    """All of a layer's output, whole and in slabs of that."""
    is_one, slabbed = len(x.cuts) == 1, Slabbed()
    y = None if is_one else new_like(x.last, x.planes, len(layer.weight))
    for i, j, slab in layer.forward(x, norm):
        if is_one:
            y = slab
        else:
            y[:, :, i:j] = slab
        slabbed.append(y[:, :, i:j], measured)
    return y, slabbed


def laid(x: Tensor, kind: torch.dtype | None = None) -> Tensor:
    """Voxels in channels-last layout, in a type; None is autocast's where that is on, else theirs."""
    device = x.device.type
    if kind is None:
        on = torch.is_autocast_enabled(device)
        kind = torch.get_autocast_dtype(device) if on else x.dtype
    return x.to(kind).contiguous(memory_format=LAYOUT)


def new_like(x: Tensor, planes: int, channels: int) -> Tensor:
    """An image to be written, as x but for its planes and channels."""
    return empty(x, (1, channels, planes, *x.shape[3:]))


def together(images: list[Tensor]) -> Tensor:
    """Images [1, ...] as a batch; one is not copied."""
    return images[0] if len(images) == 1 else torch.cat(images)
