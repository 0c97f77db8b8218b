"""Operators under the slab-wise layers, each with a stand-in for tensors that have no data.

Group norm is a batch norm with known statistics: so torch's channels-last kernels do the arithmetic,
in float32 where the voxels are bf16.
"""

import torch
from torch import Tensor


def exact(dtype: torch.dtype) -> torch.dtype:
    """What sums over voxels are kept in."""
    return torch.promote_types(dtype, torch.float32)


@torch.library.custom_op("vol3d::mean_and_var", mutates_args=())
def mean_and_var(x: Tensor) -> Tensor:
    """Mean and unbiased variance of each channel of x [1, C, X, Y, Z]: [2, C], float32 or float64."""
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


class Moments:
    """Mean and variance of each channel, slab by slab.

    Two passes over each slab, then Chan et al. 1983 (The American Statistician 37:242), eq. 2.1: as
    exact as two passes over the whole.
    """

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.told: list[Tensor] = []

    def add(self, x: Tensor) -> None:
        """Take in a slab [1, C, X, Y, Z]."""
        self.counts.append(x[0, 0].numel())
        self.told.append(mean_and_var(x))

    def total(self) -> tuple[Tensor, Tensor]:
        """Mean and (biased) variance of all voxels so far, [C] each."""
        means, variances = torch.stack(self.told, 1)  # [slabs, C]
        n = means.new_tensor(self.counts).unsqueeze(1)
        share = n / sum(self.counts)
        mean = means[0] + (share * (means - means[0])).sum(0)
        spread = variances * (1 - 1 / n) + (means - mean).square()
        return mean, (share * spread).sum(0)


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
