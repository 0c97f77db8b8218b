"""Attention: PyTorch's own, or xformers' where that is installed and works on the GPU."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as nnf
from einops import rearrange
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def attend(q_BNHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor) -> Tensor:
    """Scaled dot-product attention, softmax(q k' / sqrt(D)) v, of each head; [B, N, H, D].

    Vaswani et al. 2017 (arXiv:1706.03762), eq. 1. The softmax is float32 in both implementations.
    Tensors without data, as in a rehearsal, take PyTorch's.
    """
    if type(q_BNHD) is Tensor:
        theirs = xformers_attention(q_BNHD.device, q_BNHD.dtype, q_BNHD.shape[-1])
        if theirs is not None:
            return theirs(q_BNHD, k_BTHD, v_BTHD)
    return torch_attention(q_BNHD, k_BTHD, v_BTHD)


def torch_attention(q_BNHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor) -> Tensor:
    """PyTorch's, which chooses among its own kernels."""
    q, k, v = (rearrange(t, "b n h d -> b h n d") for t in (q_BNHD, k_BTHD, v_BTHD))
    return rearrange(nnf.scaled_dot_product_attention(q, k, v), "b h n d -> b n h d")


@cache
def xformers_attention(device: torch.device, dtype: torch.dtype, d: int) -> Attend | None:
    """xformers', if it is installed and a trial, there and back, gives what PyTorch's gives.

    On CPUs it has no attention. Its kernels depend on the GPU, the type and the size of the heads, so
    that only a trial tells.
    """
    if device.type != "cuda":
        return None
    try:
        from xformers.ops import memory_efficient_attention as theirs

        off = torch.autocast(device.type, enabled=False)
        apart = torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)
        # Within a checkpoint its own hooks would count what the trial saves.
        with off, apart, torch.inference_mode(False), torch.enable_grad():
            ours, other = (trial(f, device, dtype, d) for f in (torch_attention, theirs))
    except Exception:  # of extensions built for another torch or GPU, anything
        return None
    coarse = 1e-4 if dtype == torch.float32 else 2e-2
    return theirs if torch.allclose(ours, other, rtol=coarse, atol=coarse) else None


def trial(f: Attend, device: torch.device, dtype: torch.dtype, d: int) -> Tensor:
    """What attention and its gradient give for a few tokens, in one tensor."""
    rng = torch.Generator().manual_seed(0)
    qkv = [torch.randn(2, n, 2, d, generator=rng).to(device, dtype) for n in (5, 9, 9)]
    y = f(*(t.requires_grad_() for t in qkv))
    y.square().sum().backward()
    return torch.cat([y.detach().flatten(), *(t.grad.flatten() for t in qkv)]).float()
