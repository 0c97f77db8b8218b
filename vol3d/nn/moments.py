"""Operators under the slab-wise layers, each with a stand-in for tensors that have no data.

Group norm is a batch norm with known statistics: so torch's channels-last kernels do the arithmetic,
in float32 where the voxels are bf16.
"""

import torch
from torch import Tensor


@torch.library.custom_op("vol3d::add_moments", mutates_args={"mean", "m2"})
def add_moments(x: Tensor, mean: Tensor, m2: Tensor, seen: int) -> None:
    """Take the voxels of a slab into the running moments of each channel.

    Two passes over the slab, then Chan et al. 1983 (The American Statistician 37:242), eq. 2.1: as
    exact as two passes over the whole.

    Args:
        x: the slab, [1, C, X, Y, Z].
        mean: of the voxels so far, [C], float32 or float64; changed.
        m2: sum of their squared distances from it, [C]; changed.
        seen: voxels so far.
    """
    n = x[0, 0].numel()
    slab, var = torch.zeros_like(mean), torch.zeros_like(m2)
    if n == 1:  # torch's unbiased variance is not defined there
        slab.copy_(x.flatten())
    else:
        # Four dimensions: CUDA's channels-last kernel knows no more.
        torch.ops.aten.batch_norm_update_stats(x.flatten(2, 3), slab, var, 1.0)
    m2 += var * (n - 1) + (slab - mean).square() * (seen * n / (seen + n))
    mean += (slab - mean) * (n / (seen + n))


@add_moments.register_fake
def _(x: Tensor, mean: Tensor, m2: Tensor, seen: int) -> None:
    return


@torch.library.custom_op("vol3d::normalise", mutates_args={"out"})
def normalise(
    x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor, beta: Tensor, eps: float, out: Tensor
) -> None:
    """out = gamma (x - mean) / sqrt(var + eps) + beta, channel by channel.

    Args:
        x: [1, C, X, Y, Z].
        mean: of each channel [C], float32 or float64, like var, gamma and beta.
        var: [C].
        gamma: [C].
        beta: [C].
        eps: added to the variance.
        out: [1, C, X, Y, Z], written.
    """
    unused = torch.empty(0, dtype=mean.dtype, device=x.device)
    torch.native_batch_norm(
        x, gamma, beta, mean, var, False, 0.0, eps, out=(out, unused, unused.clone())
    )


@normalise.register_fake
def _(
    x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor, beta: Tensor, eps: float, out: Tensor
) -> None:
    return


@torch.library.custom_op("vol3d::norm_sums", mutates_args=())
def norm_sums(
    g: Tensor, x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Sums over the voxels of g (x - mean) / sqrt(var + eps), and of g, of each channel [C]."""
    # CUDA reads the saved moments even where the running ones count, the CPU does not.
    r = (var + eps).rsqrt()
    _, by_gamma, by_beta = torch.ops.aten.native_batch_norm_backward(
        g, x, gamma, mean, var, mean, r, False, eps, [False, True, True]
    )
    return by_gamma, by_beta


@norm_sums.register_fake
def _(g: Tensor, x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor, eps: float):
    return torch.empty_like(mean), torch.empty_like(mean)
