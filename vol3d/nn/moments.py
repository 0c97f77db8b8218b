"""Operators under the slab-wise layers, each with a stand-in for tensors that have no data.

Group norm is a batch norm with known statistics: so torch's channels-last kernels do the arithmetic,
in float32 where the voxels are bf16. On a CPU there are faster ones (`nn/kernels.py`).
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor

from vol3d.nn.operator import NUMBA, kernels, operator
from vol3d.nn.winograd import pays, winograd

FEW = 2**19
"""Numbers of float32 that torch's own passes may have."""


def suits(*tensors: Tensor) -> bool:
    """Whether `nn/kernels.py` is for them all: on a CPU, lying voxel by voxel, and bf16 or large.

    For little float32 torch's own passes are as fast, and Numba need not be loaded.
    """
    kind, numel = tensors[0].dtype, tensors[0].numel()
    worth = kind == torch.bfloat16 or (kind == torch.float32 and numel >= FEW)
    return (
        NUMBA
        and worth
        and all(
            x.device.type == "cpu" and x.dtype == kind and x.permute(0, 2, 3, 4, 1).is_contiguous()
            for x in tensors
        )
    )


def exact(dtype: torch.dtype) -> torch.dtype:
    """What sums over voxels are kept in."""
    return torch.promote_types(dtype, torch.float32)


def conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, pad: int = 0) -> Tensor:
    """A convolution, with `pad` zeros around Y and Z and none along X.

    For one small image in float32 on a CPU torch turns from oneDNN to a loop that takes twenty times
    as long and unfolds the image (`use_mkldnn` in ATen's Convolution.cpp, torch 2.13).
    """
    if (stride, pad) == (1, 1) and pays(x, weight):
        return winograd(x, weight, bias, 0)
    is_looped = x.device.type == "cpu" and x.dtype == torch.float32 and len(x) == 1
    if is_looped and x[..., 0].numel() <= 20480 and torch.backends.mkldnn.is_available():
        return small_conv3d(x, weight, bias, stride, pad)
    return nnf.conv3d(x, weight, bias, stride, (0, pad, pad))


@operator()
def small_conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, pad: int) -> Tensor:
    """See `conv3d`: oneDNN's, whatever the size."""
    return torch.ops.aten.mkldnn_convolution(
        x, weight, bias, [0, pad, pad], [stride] * 3, [1] * 3, 1
    )


@small_conv3d.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, pad: int) -> Tensor:
    return nnf.conv3d(x, weight, bias, stride, (0, pad, pad))


@operator()
def mean_and_var(x: Tensor) -> Tensor:
    """Mean and unbiased variance of each channel of x [1, C, X, Y, Z]: [2, C], float32 or float64."""
    if suits(x):
        return kernels().mean_and_var(x)
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
        return kernels().brought(made, out, is_added)
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

    def total(self) -> tuple[Tensor, Tensor]:
        """Mean and (biased) variance of all voxels so far, [C] each."""
        means, variances = torch.stack(self.told, 1)  # [slabs, C]
        n = means.new_tensor(self.counts).unsqueeze(1)
        share = n / sum(self.counts)
        mean = means[0] + (share * (means - means[0])).sum(0)
        spread = variances * (1 - 1 / n) + (means - mean).square()
        return mean, (share * spread).sum(0)


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
        kernels().normalise(x, scale, beta - scale * mean, is_active, out)
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
        told = kernels().normalise_backward(g, x, scale, beta - scale * mean, is_active, out)
        told[0] -= mean * told[1]
        return told.to(mean.dtype)
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
        kernels().combine(g, x, a, b, c - b * mean)
        return
    normalise(x, mean, b, c, False, scratch)
    torch.addcmul(scratch, g, a.to(g.dtype).view(1, -1, 1, 1, 1), out=g)


@combine.register_fake
def _(g: Tensor, x: Tensor, mean: Tensor, a: Tensor, b: Tensor, c: Tensor, scratch: Tensor) -> None:
    return
