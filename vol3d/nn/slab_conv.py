"""Exact layers in little memory: computed slab by slab along X, and kept as their input alone.

Between two convolutions an ordinary network keeps what went into the norm, into the SiLU and into
the convolution. Here only the first is kept; the other two exist for one slab at a time, forward and
again backward. Statistics are taken over the whole volume first, so that splitting changes nothing,
whatever the length and the number of slabs (MAISI's split convolution, Guo et al. 2024,
arXiv:2409.11169, leaves out what does not divide). A slab of a channels-last volume is one piece of
memory, so no layer copies one to cut it, and one that fits the cache is faster than the whole.

Voxels may be bf16: statistics, weights' gradients and their sums are then float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product

import torch
import torch.nn.functional as nnf
from einops import rearrange
from torch import Tensor

from vol3d.nn.norm import over_channels
from vol3d.nn.norm_ops import combine, conv3d, exact, normalise, normalise_backward, shares
from vol3d.nn.slab_volume import LAYOUT, Cuts, Slabbed
from vol3d.nn.winograd import pays, winograd_weight_gradient

SLAB = {"cpu": 8 * 2**20, "cuda": 512 * 2**20}
"""Bytes of the widest tensor of a slab, unless a number of splits is given."""
TAPS = list(product(range(3), repeat=3))
"""Places in a 3 x 3 x 3 kernel."""


def slabs(planes: int, plane: int, splits: int | None, device: str) -> Cuts:
    """Cut an axis into pieces of nearly equal length.

    Args:
        planes: its length.
        plane: bytes of one plane.
        splits: how many pieces, at most one a plane; None makes them of about `SLAB` bytes.
        device: the type of device.
    """
    if splits is None:
        splits = -(-planes * plane // SLAB.get(device, SLAB["cpu"]))
    splits = max(1, min(splits, planes))
    cuts = [planes * i // splits for i in range(splits + 1)]
    return list(pairwise(cuts))


def pairs(planes: int, plane: int, device: str) -> Cuts:
    """The same of even lengths, but for the last: so may slabs of half the grid double into them."""
    return [(2 * i, min(2 * j, planes)) for i, j in slabs(-(-planes // 2), 2 * plane, None, device)]


@dataclass
class Norm:
    """Group norm of one image, with the statistics known: mean, variance and scale, [3, C]."""

    stats: Tensor
    gamma: Tensor
    beta: Tensor
    groups: int
    eps: float

    @classmethod
    def of(
        cls, x: Slabbed, gamma: Tensor, beta: Tensor, groups: int | None, eps: float
    ) -> "Norm | OfEachVoxel":
        """Statistics of the groups of an image whose pieces were measured; see `nn/norm.py` without."""
        if groups is None:
            return OfEachVoxel(*(t.to(exact(x.last.dtype)) for t in (gamma, beta)), eps)
        stats = x.moments.grouped(gamma, groups, eps)
        return cls(stats, gamma.to(stats.dtype), beta.to(stats.dtype), groups, eps)

    def apply(self, x: Tensor, is_active: bool, out: Tensor) -> Tensor:
        """The norm of a slab of the image, and the SiLU if that `is_active`, into `out`."""
        mean, _, scale = self.stats
        normalise(x, mean, scale, self.beta, is_active, out)
        return out

    def unapply(self, g: Tensor, x: Tensor, is_active: bool, out: Tensor) -> Tensor:
        """From the gradient of what `apply` gave that of the norm's, into `out`; its sums, [2, C]."""
        mean, _, scale = self.stats
        return normalise_backward(g, x, mean, scale, self.beta, is_active, out)

    def backward(self, g: Tensor, x: Tensor, sums: Tensor, cuts: Cuts) -> tuple[Tensor, Tensor]:
        """From the gradient of the output to that of the input, in place, slab by slab; see `shares`.

        Args:
            g: gradient of the image's output, [1, C, X, Y, Z]; becomes that of its input.
            x: the image.
            sums: of g (x - mean) and of g, [2, C].
            cuts: the slabs.

        Returns:
            the gradients of gamma and beta, [C].
        """
        voxels, (mean, _, scale) = x[0, 0].numel(), self.stats
        by_gamma, b, c = shares(sums, self.stats, self.gamma, self.groups, self.eps, voxels)
        scratch = torch.empty_like(x[:, :, : max(j - i for i, j in cuts)])
        for i, j in cuts:
            combine(g[:, :, i:j], x[:, :, i:j], mean, scale, b, c, scratch[:, :, : j - i])
        return by_gamma, sums[1]


@dataclass
class OfEachVoxel:
    """Channel norm, which knows no statistics."""

    gamma: Tensor
    beta: Tensor
    eps: float

    def apply(self, x: Tensor, is_active: bool, out: Tensor) -> Tensor:
        """See `Norm.apply`."""
        out.copy_(over_channels(x.to(self.gamma.dtype), self.gamma, self.beta, self.eps))
        return nnf.silu(out, inplace=True) if is_active else out


class Totals:
    """Sums of gradients over images and slabs."""

    def __init__(self) -> None:
        self.sums: list[Tensor] = []

    def add(self, *grads: Tensor) -> None:
        """Add one of each."""
        if self.sums:
            for total, grad in zip(self.sums, grads, strict=True):
                total += grad
        else:
            self.sums = list(grads)


class Window:
    """What a convolution of 3 planes sees: planes [i - 1, j + 1) of the normed image, zero outside.

    It moves along X; each plane is made once.
    """

    def __init__(self, x: Slabbed, norm: Norm, is_active: bool) -> None:
        self.x, self.norm, self.is_active = x, norm, is_active
        longest = max(j - i for i, j in x.cuts)
        shape = (1, x.shape[1], longest + 2, *x.shape[3:])
        self.buffer = torch.empty(
            shape, dtype=x.last.dtype, device=x.last.device, memory_format=LAYOUT
        )
        self.length = 0

    def move(self, i: int, j: int) -> Tensor:
        """The window for output planes [i, j): [1, C, j - i + 2, Y, Z]."""
        buffer, planes = self.buffer, self.x.planes
        if i == 0:
            buffer[:, :, 0].zero_()
        else:
            for p in (0, 1):  # planes i - 1 and i are there from the last time
                buffer[:, :, p].copy_(buffer[:, :, self.length + p])
        for first, part in self.x.parts(i + 1 if i else 0, min(j + 1, planes)):
            start = first - i + 1
            self.make(part, buffer[:, :, start : start + part.shape[2]])
        if j == planes:
            buffer[:, :, j - i + 1].zero_()
        self.length = j - i
        return buffer[:, :, : j - i + 2]

    def make(self, x: Tensor, out: Tensor) -> Tensor:
        """The norm of some planes, and the SiLU, into `out`."""
        return self.norm.apply(x, self.is_active, out)


@dataclass
class Layer:
    """Norm, SiLU (or not), and a 3 x 3 x 3 convolution: weights in the voxels' type."""

    weight: Tensor
    bias: Tensor
    is_active: bool = True

    @classmethod
    def of(cls, x: Tensor, weight: Tensor, bias: Tensor) -> "Layer":
        """The layer in the type of x."""
        return cls(weight.to(x.dtype), bias.to(x.dtype))

    def forward(self, x: Slabbed, norm: Norm) -> Iterator[tuple[int, int, Tensor]]:
        """Planes i to j of the output, piece after piece."""
        if len(x.cuts) == 1:  # the convolution itself adds the zeros
            seen = x.whole()
            seen = norm.apply(seen, self.is_active, torch.empty_like(seen))
            yield 0, x.planes, convolve(seen, self.weight, self.bias, ends=1)
            return
        window = Window(x, norm, self.is_active)
        for i, j in x.cuts:
            yield i, j, convolve(window.move(i, j), self.weight, self.bias)

    def to_one_channel(self, x: Slabbed, norm: Norm) -> Tensor:
        """All of the output, of one channel: in bf16 oneDNN has no kernel for it.

        A matrix product gives the share of each of the 27 taps, which their places then add up.
        """
        X, (Y, Z) = x.planes, x.last.shape[3:]
        y = self.bias.expand(1, 1, X, Y, Z).clone()
        taps = rearrange(self.weight, "1 c i j k -> (i j k) c")
        window = Window(x, norm, self.is_active)
        voxels = rearrange(window.buffer, "1 c x y z -> (x y z) c")
        exactly = voxels.to(taps.dtype)  # once: fresh memory costs more; the same if of that type
        for i, j in x.cuts:
            window.make(x.between(i, j), window.buffer[:, :, : j - i])
            n = (j - i) * Y * Z
            shares = (taps @ exactly[:n].copy_(voxels[:n]).T).view(27, j - i, Y, Z)
            for share, (a, b, c) in zip(shares, TAPS, strict=True):
                here, there = zip(reach(X, a, i, j), reach(Y, b), reach(Z, c), strict=True)
                y[0, 0, *there] += share[*here]
        return y

    def backward(
        self, g: Tensor, x: Tensor, norm: Norm, splits: int | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Gradients of x, weight, bias, gamma and beta from that of the output, g [1, D, X, Y, Z]."""
        weight, grad, cuts = self.weight.to(x.dtype), torch.empty_like(x), self.cuts(x, splits)
        if len(cuts) == 1 and x.device.type != "cpu" and len(weight) > 1:
            seen = norm.apply(x, self.is_active, grad)  # which makes room for its gradient
            given, *found = torch.ops.aten.convolution_backward(
                g, seen, weight, [len(weight)], [1] * 3, [1] * 3, [1] * 3,
                False, [0] * 3, 1, [True] * 3,
            )  # fmt: skip
            sums = norm.unapply(given, x, self.is_active, grad)
            by_weight, by_bias = (t.to(exact(x.dtype)) for t in found)
            return grad, by_weight, by_bias, *norm.backward(grad, x, sums, cuts)
        turned = weight.transpose(0, 1).flip(2, 3, 4).contiguous(memory_format=LAYOUT)
        totals = Totals()
        window = Window(Slabbed.of(x, cuts), norm, self.is_active)
        for i, j in cuts:
            given = convolve(planes_of(g, i - 1, j + 1), turned, None)
            w, b = weight_gradient(g[:, :, i:j], window.move(i, j), weight, pad=1)
            totals.add(w, b, norm.unapply(given, x[:, :, i:j], self.is_active, grad[:, :, i:j]))
        by_weight, by_bias, sums = totals.sums
        return grad, by_weight, by_bias, *norm.backward(grad, x, sums, cuts)

    def cuts(self, x: Tensor, splits: int | None) -> Cuts:
        """The slabs of x."""
        widest = max(self.weight.shape[:2]) * x[0, 0, 0].numel() * x.element_size()
        return slabs(x.shape[2], widest, splits, x.device.type)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, ends: int = 0) -> Tensor:
    """A 3 x 3 x 3 convolution of planes [i - 1, j + 1) that gives planes [i, j), in the weight's type.

    Where x is the whole, `ends` is 1: zeros lie around it.

    With one channel in and bf16, oneDNN falls back to a loop several times slower than 64 channels.
    """
    x, weight = widened(x.to(weight.dtype), weight)
    return conv3d(x, weight, bias, pad=1, ends=ends)


def reach(n: int, tap: int, i: int = 0, j: int | None = None) -> tuple[slice, slice]:
    """Which of an axis's voxels [i, j) a tap carries to a voxel of the output, and to which.

    Of n voxels; tap 0 carries each to the next, 2 to the one before.
    """
    j = n if j is None else j
    first, last = max(i, tap - 1), min(j, n - 1 + tap)
    return slice(first - i, last - i), slice(first + 1 - tap, last + 1 - tap)


def widened(x: Tensor, weight: Tensor, to: int = 4) -> tuple[Tensor, Tensor]:
    """One channel of bf16, and the weight of its convolution, with channels of zeros after it."""
    if x.shape[1] > 1 or x.dtype != torch.bfloat16:
        return x, weight
    rest = ((len(t), to - 1, *t.shape[2:]) for t in (x, weight))
    pairs = zip((x, weight), rest, strict=True)
    wide = (torch.cat([t, t.new_zeros(shape)], 1) for t, shape in pairs)
    return tuple(t.contiguous(memory_format=LAYOUT) for t in wide)


def weight_gradient(
    g: Tensor, x: Tensor, weight: Tensor, stride: int = 1, pad: int = 0
) -> tuple[Tensor, Tensor]:
    """Of weight and bias, float32 or float64.

    On a CPU plane by plane of the kernel, with the volume's planes as a batch of images: as fast, and
    oneDNN's bf16 gradient of a 3-D weight writes where it must not if the volume has few planes
    (torch 2.13).

    Args:
        g: gradient of the output, [1, D, X, Y, Z].
        x: what the convolution saw, [1, C, stride (X - 1) + kernel, ...], without `pad` along Y and Z.
        weight: [D, C, kernel, kernel, kernel], in the type of x.
        stride: of the convolution.
        pad: zeros around Y and Z.
    """
    kind = exact(x.dtype)
    if len(weight) == pad == 1:  # the last layer
        return share_of_taps(g, x).to(kind), g.sum(dtype=kind).view(1)
    if (stride, pad) == (1, 1) and pays(g, weight):
        return winograd_weight_gradient(g, x), g.sum((0, 2, 3, 4))
    if x.device.type != "cpu":
        _, *found = torch.ops.aten.convolution_backward(
            g, x, weight, [len(weight)], [stride] * 3, [0, pad, pad], [1] * 3,
            False, [0] * 3, 1, [False, True, True],
        )  # fmt: skip
        return tuple(t.to(kind) for t in found)
    given, seen = (rearrange(t, "1 c x y z -> x c y z") for t in (g, x))  # planes as images
    if x.dtype == torch.float32:
        # In torch's own layout oneDNN's is up to three times as fast.
        given, seen, weight = (t.contiguous() for t in (given, seen, weight))
    parts, bias, n = [], None, len(given)
    for k in range(weight.shape[2]):
        _, part, by_bias = torch.ops.aten.convolution_backward(
            given, seen[k : k + stride * (n - 1) + 1 : stride], weight[:, :, k], [len(weight)],
            [stride] * 2, [pad] * 2, [1] * 2, False, [0] * 2, 1, [False, True, bias is None],
        )  # fmt: skip
        parts.append(part)
        bias = by_bias if bias is None else bias
    return torch.stack(parts, 2).to(kind), bias.to(kind)


def share_of_taps(g: Tensor, x: Tensor) -> Tensor:
    """Gradient of a weight [1, C, 3, 3, 3] as one matrix product, from planes [i, j) and the window."""
    X, Y, Z = x.shape[2:]
    g = nnf.pad(g[0, 0], (1, 1, 1, 1, 2, 2))
    taps = [g[2 - i : X + 2 - i, 2 - j : Y + 2 - j, 2 - k : Z + 2 - k] for i, j, k in TAPS]
    by_tap = torch.stack(taps).view(27, -1) @ rearrange(x, "1 c x y z -> (x y z) c")
    return rearrange(by_tap, "(i j k) c -> 1 c i j k", i=3, j=3)


def planes_of(x: Tensor, i: int, j: int) -> Tensor:
    """Planes [i, j) of x [1, C, X, Y, Z], zero where there are none."""
    before, after = max(0, -i), max(0, j - x.shape[2])
    inside = x[:, :, max(i, 0) : min(j, x.shape[2])]
    return nnf.pad(inside, (0, 0, 0, 0, before, after)) if before or after else inside
