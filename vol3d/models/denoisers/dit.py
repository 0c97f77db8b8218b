"""The diffusion transformer: a latent cut into cubes that attend to each other."""

from typing import Literal

import torch
import torch.nn.functional as nnf
from einops import rearrange
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.nn.attention import Attention
from vol3d.nn.blocks import recompute, zeroed
from vol3d.nn.embed import positions, sinusoidal
from vol3d.nn.fold import unfold


class DiT(Config):
    """Transformer blocks steered by adaptive layer norm (Peebles and Xie 2023, arXiv:2212.09748).

    In three dimensions, with cross-attention where tokens are given (as PixArt-alpha, Chen et al.
    2023, arXiv:2310.00426).
    """

    kind: Literal["dit"] = "dit"
    patch: PositiveInt = 2
    """Latent voxels along each edge of a cube."""
    width: PositiveInt = 192
    """Channels of a cube's token."""
    depth: PositiveInt = 6
    """Blocks."""
    head_channels: PositiveInt = 32
    """Channels of an attention head."""
    mlp_ratio: PositiveInt = 4
    """Width of the feed-forward part, in widths."""
    checkpointing: bool = False
    """Compute activations again in the backward pass, block by block: less memory, more time."""

    @model_validator(mode="after")
    def check_width(self) -> "DiT":
        """Heads fill the width, and so do sines and cosines of three axes."""
        if self.width % self.head_channels:
            raise ValueError(
                f"width={self.width} must be a multiple of head_channels={self.head_channels}"
            )
        if self.width % 6:
            raise ValueError(f"width={self.width} must be a multiple of 6: sines of three axes")
        return self

    def build(
        self,
        in_channels: int,
        out_channels: int,
        *,
        vector_dim: int | None = None,
        token_dim: int | None = None,
        extra_channels: int = 0,
        addition_channels: int = 0,
    ) -> "DiTNet":
        """The network; a port is open where its size is given."""
        channels = in_channels + extra_channels
        return DiTNet(self, channels, out_channels, vector_dim, token_dim, addition_channels)


class DiTNet(nn.Module):
    """f(x, c_noise, vector, tokens, channels, addition) -> [B, out_channels, X, Y, Z]."""

    def __init__(
        self,
        config: DiT,
        in_channels: int,
        out_channels: int,
        vector_dim: int | None,
        token_dim: int | None,
        addition_channels: int,
    ) -> None:
        super().__init__()
        self.checkpointing, self.token_dim = config.checkpointing, token_dim
        self.patch, width = config.patch, config.width
        self.patch_embed = nn.Conv3d(in_channels, width, self.patch, self.patch)
        self.add_in = (
            zeroed(nn.Conv3d(addition_channels, width, self.patch, self.patch))
            if addition_channels
            else None
        )
        self.time_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.vector_embed = nn.Linear(vector_dim, width, bias=False) if vector_dim else None
        self.blocks = nn.ModuleList(DiTBlock(config, token_dim) for _ in range(config.depth))
        self.norm_out = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.steer_out = zeroed(nn.Linear(width, 2 * width))
        self.linear_out = zeroed(nn.Linear(width, out_channels * self.patch**3))

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        vector: Tensor | None = None,
        tokens: Tensor | None = None,
        channels: Tensor | None = None,
        addition: Tensor | None = None,
    ) -> Tensor:
        """One estimate; see the U-Net for what goes in. An axis that does not divide is padded.

        Raises:
            AssertionError: a condition is given whose port is closed, or tokens are missing.
        """
        assert vector is None or self.vector_embed is not None, (
            "vector, but built without vector_dim"
        )
        assert (tokens is None) == (self.token_dim is None), (
            f"tokens {'missing' if tokens is None else 'given'}, but token_dim={self.token_dim}"
        )
        emb = self.time_embed(sinusoidal(c_noise, self.blocks[0].width))  # [B, C]
        if vector is not None:
            emb = emb + self.vector_embed(vector)
        h = self.patch_embed(self.padded(x if channels is None else torch.cat([x, channels], 1)))
        h = h if addition is None else h + self.add_in(self.padded(addition))
        grid = h.shape[2:]
        h_BNC = rearrange(h, "b c x y z -> b (x y z) c")
        h_BNC = h_BNC + positions(grid, h_BNC.shape[-1], h_BNC.device).to(h_BNC)
        for block in self.blocks:
            h_BNC = recompute(self.checkpointing, block, h_BNC, emb, tokens)
        shift, scale = self.steer_out(nnf.silu(emb))[:, None].chunk(2, dim=-1)
        h_BNC = self.linear_out(self.norm_out(h_BNC) * (1 + scale) + shift)
        h = rearrange(h_BNC, "b (x y z) c -> b c x y z", x=grid[0], y=grid[1], z=grid[2])
        a, b, c = x.shape[2:]
        return unfold(h, self.patch)[:, :, :a, :b, :c]

    def padded(self, x: Tensor) -> Tensor:
        """x with zeros at the high end of each axis, so that cubes fill it."""
        rest = [-n % self.patch for n in x.shape[2:]]
        return nnf.pad(x, (0, rest[2], 0, rest[1], 0, rest[0])) if any(rest) else x


class DiTBlock(nn.Module):
    """Attention and feed-forward, each shifted, scaled and gated by the embedding (adaLN-Zero)."""

    def __init__(self, config: DiT, token_dim: int | None) -> None:
        super().__init__()
        width, inner = config.width, config.mlp_ratio * config.width
        self.width = width
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attn = Attention(width, config.head_channels)
        self.cross = Attention(width, config.head_channels, token_dim) if token_dim else None
        if self.cross is not None:
            zeroed(self.cross.out_proj)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.steer = zeroed(nn.Linear(width, 6 * width))

    def forward(self, x_BNC: Tensor, emb: Tensor, tokens: Tensor | None) -> Tensor:
        """x [B, N, C], emb [B, C], tokens [B, T, E]."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.steer(nnf.silu(emb))[:, None].chunk(
            6, dim=-1
        )
        x_BNC = x_BNC + gate1 * self.attn(self.norm1(x_BNC) * (1 + scale1) + shift1)
        if self.cross is not None:
            x_BNC = x_BNC + self.cross(x_BNC, tokens)
        return x_BNC + gate2 * self.mlp(self.norm2(x_BNC) * (1 + scale2) + shift2)
