"""Attention, and the blocks made of it: PyTorch's own, or xformers' where that works on the GPU.

Shapes: B batch, C channels, N = X Y Z voxels as tokens, T tokens of a condition, H heads, D channels
of a head.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as nnf
from einops import rearrange
from torch import Tensor, nn

from vol3d.nn.blocks import zeroed
from vol3d.nn.norm import norm
from vol3d.nn.slab_volume import Slabbed

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def attend(q_BNHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor) -> Tensor:
    """Scaled dot-product attention, softmax(q k' / sqrt(D)) v, of each head; [B, N, H, D].

    Vaswani et al. 2017 (arXiv:1706.03762), eq. 1. The softmax is float32 in both implementations.
    Tensors without data, as in a cost estimate, take PyTorch's.
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


class Attention(nn.Module):
    """Multi-head attention of tokens [B, N, C] to themselves or to a context [B, T, E]."""

    def __init__(
        self,
        channels: int,
        head_channels: int | None,
        context_dim: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.heads = channels // head_channels if head_channels else 1
        context_dim = context_dim or channels
        self.to_q = nn.Linear(channels, channels, bias=bias)
        self.to_k = nn.Linear(context_dim, channels, bias=bias)
        self.to_v = nn.Linear(context_dim, channels, bias=bias)
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, x_BNC: Tensor, context: Tensor | None = None) -> Tensor:
        """The attended tokens [B, N, C]."""
        context = x_BNC if context is None else context
        q, k, v = (
            rearrange(t, "b n (h d) -> b n h d", h=self.heads)
            for t in (self.to_q(x_BNC), self.to_k(context), self.to_v(context))
        )
        return self.out_proj(rearrange(attend(q, k, v), "b n h d -> b n (h d)"))


class AttentionBlock(nn.Module):
    """Every voxel attends to every voxel: norm, attention, and the input added."""

    def __init__(
        self,
        channels: int,
        *,
        groups: int | None,
        eps: float = 1e-6,
        head_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.norm = norm(channels, groups, eps)
        self.attn = Attention(channels, head_channels)

    def forward(self, x: Tensor | Slabbed, tokens: Tensor | None = None) -> Tensor | Slabbed:
        """x [B, C, X, Y, Z] or in slabs; the tokens of a condition are not looked at."""
        if isinstance(x, Slabbed):
            return Slabbed.of(self(x.whole()), x.cuts, measured=True)
        y = self.attn(rearrange(self.norm(x), "b c x y z -> b (x y z) c"))
        return x + unflatten(y, x)


class TransformerLayer(nn.Module):
    """Self-attention, attention to a condition's tokens, and a gated feed-forward (GEGLU)."""

    def __init__(self, channels: int, head_channels: int | None, token_dim: int) -> None:
        super().__init__()
        self.attn1 = Attention(channels, head_channels, bias=False)
        self.attn2 = Attention(channels, head_channels, token_dim, bias=False)
        self.linear1 = nn.Linear(channels, 8 * channels)
        self.linear2 = nn.Linear(4 * channels, channels)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x_BNC: Tensor, tokens: Tensor | None) -> Tensor:
        """x [B, N, C], tokens [B, T, E]."""
        x_BNC = x_BNC + self.attn1(self.norm1(x_BNC))
        x_BNC = x_BNC + self.attn2(self.norm2(x_BNC), tokens)
        value, gate = self.linear1(self.norm3(x_BNC)).chunk(2, dim=-1)
        return x_BNC + self.linear2(value * nnf.gelu(gate))


class TransformerBlock(nn.Module):
    """Transformer layers over the voxels (Rombach et al. 2022, arXiv:2112.10752, section 3.3)."""

    def __init__(
        self,
        channels: int,
        *,
        groups: int | None,
        eps: float = 1e-6,
        head_channels: int | None = None,
        token_dim: int,
        layers: int = 1,
    ) -> None:
        super().__init__()
        self.norm = norm(channels, groups, eps)
        self.proj_in = nn.Conv3d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerLayer(channels, head_channels, token_dim) for _ in range(layers)
        )
        self.proj_out = zeroed(nn.Conv3d(channels, channels, 1))

    def forward(self, x: Tensor | Slabbed, tokens: Tensor | None = None) -> Tensor | Slabbed:
        """x [B, C, X, Y, Z] or in slabs, tokens [B, T, E]."""
        if isinstance(x, Slabbed):
            return Slabbed.of(self(x.whole(), tokens), x.cuts, measured=True)
        y = rearrange(self.proj_in(self.norm(x)), "b c x y z -> b (x y z) c")
        for layer in self.transformer_blocks:
            y = layer(y, tokens)
        return x + self.proj_out(unflatten(y, x))


def unflatten(y_BNC: Tensor, x: Tensor) -> Tensor:
    """Tokens [B, N, C] back to the grid of x [B, C, X, Y, Z]."""
    a, b, c = x.shape[2:]
    return rearrange(y_BNC, "b (x y z) c -> b c x y z", x=a, y=b, z=c)
