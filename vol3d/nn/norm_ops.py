"""Operators under the slab-wise layers, each with a fake for tensors that have no data.

Group norm is a batch norm with known statistics: so torch's channels-last kernels do the arithmetic,
in float32 where the voxels are bf16. There are faster ones, which do in one pass what torch does in
several: on a CPU Numba compiles them (`nn/cpu_kernels.py`), on a GPU Triton (`nn/triton_kernels.py`).
"""

from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as nnf
from torch import Tensor

from vol3d.nn.custom_ops import NUMBA, kernels, operator, there
from vol3d.nn.winograd import pays, winograd

FEW = 2**19
"""Numbers of float32 that torch's own passes may have."""


def suits(*tensors: Tensor) -> bool:
    """Whether our own kernels are for them all: voxel by voxel in one type and on one device.

    On a CPU bf16, or large: for little float32 torch's own passes are as fast, and Numba need not be
    loaded. On a GPU where Triton works.
    """
    first, numel = tensors[0], tensors[0].numel()
    if first.device.type == "cpu":
        large = first.dtype == torch.float32 and numel >= FEW
        worth = NUMBA and (first.dtype == torch.bfloat16 or large)
    else:
        worth = suits_triton(first)
    return worth and all(
        x.device == first.device
        and x.dtype == first.dtype
        and x.permute(0, 2, 3, 4, 1).is_contiguous()
        for x in tensors
    )


def suits_triton(x: Tensor) -> bool:
    """Whether Triton's kernels take numbers of this type on this device."""
    known = x.dtype in (torch.bfloat16, torch.float16, torch.float32)
    return known and x.is_cuda and why_not_triton(x.device) is None


@cache
def why_not_triton(device: torch.device) -> str | None:
    """Why Triton's kernels are not used on a GPU; None if they are.

    Triton compiles with the system's C compiler, which is not on every machine: only a trial tells.
    """
    if find_spec("triton") is None:
        return "Triton is not installed"
    try:
        x = torch.arange(24.0, device=device).view(1, 2, 1, 3, 4)
        told = kernels("cuda").mean_and_var(x.to(memory_format=torch.channels_last_3d))
        right = torch.stack([x.mean((0, 2, 3, 4)), x.var((0, 2, 3, 4))])
        return None if torch.allclose(told, right) else "Triton's kernels give wrong numbers"
    except Exception as error:  # of a compiler, anything
        told = (str(error).strip() or type(error).__name__).splitlines()[-1]
        return f"Triton's kernels do not compile: {told}"


def exact(dtype: torch.dtype) -> torch.dtype:
    """What sums over voxels are kept in."""
    return torch.promote_types(dtype, torch.float32)


def conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, pad: int = 0, ends: int = 0
) -> Tensor:
    """A convolution, with `pad` zeros around Y and Z and `ends` around X.

    For one small image in float32 on a CPU torch turns from oneDNN to a loop that takes twenty times
    as long and unfolds the image (`use_mkldnn` in ATen's Convolution.cpp, torch 2.13).
    """
    if (stride, pad) == (1, 1) and pays(x, weight):
        return winograd(x, weight, bias, ends)
    is_looped = x.device.type == "cpu" and x.dtype == torch.float32 and len(x) == 1
    if is_looped and x[..., 0].numel() <= 20480 and torch.backends.mkldnn.is_available():
        return small_conv3d(x, weight, bias, stride, pad, ends)
    return nnf.conv3d(x, weight, bias, stride, (ends, pad, pad))


@operator()
def small_conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, pad: int, ends: int
) -> Tensor:
    """See `conv3d`: oneDNN's, whatever the size."""
    return torch.ops.aten.mkldnn_convolution(
        x, weight, bias, [ends, pad, pad], [stride] * 3, [1] * 3, 1
    )


@small_conv3d.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, pad: int, ends: int) -> Tensor:
    return nnf.conv3d(x, weight, bias, stride, (ends, pad, pad))


@operator()
def mean_and_var(x: Tensor) -> Tensor:
    """Mean and unbiased variance of each channel of x [1, C, X, Y, Z]: [2, C], float32 or float64."""
    if suits(x):
        return kernels(x.device.type).mean_and_var(x)
    told = torch.zeros(2, x.shape[1], dtype=exact(x.dtype), device=x.device)
    if x[0, 0].numel() == 1:  # torch's unbiased variance is not defined there
        told[0] = x.flatten()
    else:
        # Four dimensions: CUDA's channels-last kernel knows no more.
        torch.ops.aten.batch_norm_update_stats(x.flatten(2, 3), told[0], told[1], 1.0)
    return told


@mean_and_var.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty(2, x.shape[1], dtype=exact(x.dtype), device=x.device)


@operator({"out"})
def brought(made: Tensor, out: Tensor, is_added: bool) -> Tensor:
    """out = made, or out + made if it `is_added`; `mean_and_var` of that, taken on the way."""
    if suits(made, out):
        return kernels(out.device.type).brought(made, out, is_added)
    out.add_(made) if is_added else out.copy_(made)
    return mean_and_var(out)


@brought.register_fake
def _(made: Tensor, out: Tensor, is_added: bool) -> Tensor:
    return torch.empty(2, out.shape[1], dtype=exact(out.dtype), device=out.device)


class Moments:
    """Mean and variance of each channel, slab by slab.

    Two passes over each slab, then Chan et al. 1983 (The American Statistician 37:242), eq. 2.1: as
    exact as two passes over the whole.
    """

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.told: list[Tensor] = []

    def add(self, x: Tensor, told: Tensor | None = None) -> None:
        """Take in a slab [1, C, X, Y, Z]; `told` is its mean and variance if that is known."""
        self.counts.append(x[0, 0].numel())
        self.told.append(mean_and_var(x) if told is None else told)

    def grouped(self, gamma: Tensor, groups: int, eps: float) -> Tensor:
        """See `grouped`, of all slabs so far."""
        told = self.told[0].unsqueeze(0) if len(self.told) == 1 else torch.stack(self.told)
        return grouped(told, there(tuple(self.counts), told), gamma, groups, eps)


@operator()
def grouped(told: Tensor, counts: Tensor, gamma: Tensor, groups: int, eps: float) -> Tensor:
    """Statistics of the groups of a group norm, told of each channel.

    Args:
        told: mean and unbiased variance of each channel in each slab, [slabs, 2, C].
        counts: voxels of each slab.
        gamma: the norm's weight, [C].
        groups: how many.
        eps: the norm's epsilon.

    Returns:
        mean, biased variance, and scale = gamma / sqrt(var + eps), [3, C].
    """
    if suits_triton(told):
        return kernels("cuda").grouped(told, counts, gamma, groups, eps)
    means, variances = told.unflatten(2, (groups, -1)).unbind(1)  # [slabs, groups, width]
    n = counts.view(-1, 1, 1)
    share = n / (counts.sum() * means.shape[2])
    origin = means[:1, :, :1]
    mean = origin + (share * (means - origin)).sum((0, 2), keepdim=True)
    spread = variances * (1 - 1 / n) + (means - mean).square()
    var = (share * spread).sum((0, 2), keepdim=True)
    stats = torch.cat([mean, var]).expand(2, groups, means.shape[2]).flatten(1)
    return torch.cat([stats, (gamma * (stats[1] + eps).rsqrt()).to(stats).unsqueeze(0)])


@grouped.register_fake
def _(told: Tensor, counts: Tensor, gamma: Tensor, groups: int, eps: float) -> Tensor:
    return told.new_empty(3, told.shape[2])


@operator({"out"})
def normalise(
    x: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, is_active: bool, out: Tensor
) -> None:
    """out = scale (x - mean) + beta, channel by channel, and the SiLU of that if it `is_active`.

    Args:
        x: [1, C, X, Y, Z].
        mean: of each channel [C], float32 or float64, like scale and beta.
        scale: [C].
        beta: [C].
        is_active: whether a SiLU follows.
        out: [1, C, X, Y, Z], written.
    """
    if suits(x, out):
        kernels(x.device.type).normalise(x, mean, scale, beta, is_active, out)
        return
    unused = torch.empty(0, dtype=mean.dtype, device=x.device)
    torch.native_batch_norm(
        x, scale, beta, mean, torch.ones_like(mean), False, 0.0, 0.0,
        out=(out, unused, unused.clone()),
    )  # fmt: skip
    if is_active:
        nnf.silu(out, inplace=True)


@normalise.register_fake
def _(x: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, is_active: bool, out: Tensor) -> None:
    return


@operator({"out"})
def normalise_backward(
    g: Tensor, x: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, is_active: bool, out: Tensor
) -> Tensor:
    """From the gradient g of what `normalise` gave: that of the norm's output, before the SiLU, in out.

    Returns:
        [2, C]: sums over voxels of out (x - mean), and of out; float32 or float64.
    """
    if suits(g, x, out):
        return kernels(x.device.type).normalise_backward(g, x, mean, scale, beta, is_active, out)
    if is_active:
        normalise(x, mean, scale, beta, False, out)
        torch.ops.aten.silu_backward.grad_input(g, out, grad_input=out)
    else:
        out.copy_(g)
    # Of a norm with a variance of 1. CUDA reads the saved moments even where the running ones count,
    # the CPU does not.
    one = torch.ones_like(mean)
    _, *sums = torch.ops.aten.native_batch_norm_backward(
        out, x, one, mean, one, mean, one, False, 0.0, [False, True, True]
    )
    return torch.stack(sums)


@normalise_backward.register_fake
def _(g, x: Tensor, mean: Tensor, scale: Tensor, beta: Tensor, is_active: bool, out) -> Tensor:
    return torch.stack([mean, mean])


@operator({"g", "scratch"})
def combine(
    g: Tensor, x: Tensor, mean: Tensor, a: Tensor, b: Tensor, c: Tensor, scratch: Tensor
) -> None:
    """g = a g + b (x - mean) + c, channel by channel; `scratch`, of the shape of x, may be written."""
    if suits(g, x):
        kernels(x.device.type).combine(g, x, mean, a, b, c)
        return
    normalise(x, mean, b, c, False, scratch)
    torch.addcmul(scratch, g, a.to(g.dtype).view(1, -1, 1, 1, 1), out=g)


@combine.register_fake
def _(g: Tensor, x: Tensor, mean: Tensor, a: Tensor, b: Tensor, c: Tensor, scratch: Tensor) -> None:
    return


@operator()
def shares(sums: Tensor, stats: Tensor, gamma: Tensor, groups: int, eps: float, n: int) -> Tensor:
    """How the gradient of a group norm's input depends on its input.

    With r = 1 / sqrt(var + eps), x' = (x - mean) r and means over the voxels and channels of a group it
    is r (gamma g - mean(gamma g) - x' mean(gamma g x')).

    Args:
        sums: of g (x - mean) and of g over the voxels, [2, C].
        stats: see `grouped`.
        gamma: the norm's weight, [C].
        groups: how many.
        eps: the norm's epsilon.
        n: voxels.

    Returns:
        [3, C]: the gradient of gamma, and b and c of `combine`, whose a is the norm's scale.
    """
    if suits_triton(sums):
        return kernels("cuda").shares(sums, stats, gamma, groups, eps, n)
    r = (stats[1] + eps).rsqrt()
    told = torch.stack([sums[0] * r, sums[1]])
    means = (gamma * told).unflatten(1, (groups, -1)).sum(2, keepdim=True) / n
    gx, g1 = (means / (len(gamma) // groups)).expand(2, groups, len(gamma) // groups).flatten(1)
    return torch.stack([told[0], -gx * r * r, -g1 * r])


@shares.register_fake
def _(sums: Tensor, stats: Tensor, gamma: Tensor, groups: int, eps: float, n: int) -> Tensor:
    return sums.new_empty(3, sums.shape[1])
