"""The 3-D diffusion U-Net with ports for a vector, tokens, channels and addition."""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as nnf
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.nn.attention import AttentionBlock, TransformerBlock
from vol3d.nn.blocks import Down, SteeredBlock, Up, conv3, folded, recompute, unfolded, zeroed
from vol3d.nn.embed import sinusoidal


class UNet(Config):
    """Residual and attention blocks at several scales (Dhariwal and Nichol 2021, arXiv:2105.05233).

    With `modulation: add` it is MONAI's DiffusionModelUNet layer by layer.
    """

    kind: Literal["unet"] = "unet"
    channels: tuple[PositiveInt, ...] = (64, 128)
    """Channels of each level; every level but the last halves the grid."""
    patch: PositiveInt = 1
    """Blocks of patch^3 voxels are folded into channels, which saves most of the time; 1 folds none."""
    num_res_blocks: PositiveInt | tuple[PositiveInt, ...] = 1
    """Residual blocks of each level going down; one more going up."""
    attention_levels: tuple[bool, ...] = ()
    """Which levels attend; none if empty. The middle always does."""
    head_channels: PositiveInt | tuple[NonNegativeInt, ...] | None = None
    """Channels of an attention head, or one per level; null is a single head."""
    norm_groups: PositiveInt = 8
    """Groups of the group norm."""
    norm_eps: float = 1e-6
    """Epsilon of the group norm."""
    modulation: Literal["adaptive", "add"] = "adaptive"
    """How noise level and vector steer a block: adaptive group norm, or added to its features."""
    resblock_updown: bool = False
    """Halve and double the grid inside residual blocks, instead of by a convolution."""
    transformer_layers: PositiveInt = 1
    """Layers of each transformer, where tokens are given."""
    checkpointing: bool = False
    """Compute activations again in the backward pass, block by block: less memory, more time."""

    @model_validator(mode="after")
    def check_levels(self) -> "UNet":
        """Every level has its settings, and its channels fit the groups and the heads."""
        if not self.channels:
            raise ValueError("channels=() must name at least one level")
        if self.channels[0] % 2:  # half of the noise level's embedding is cosines, half sines
            raise ValueError(f"channels={self.channels[0]} of the first level must be even")
        for name in ("num_res_blocks", "attention_levels", "head_channels"):
            value = getattr(self, name)
            none = name == "attention_levels" and value == ()
            if isinstance(value, tuple) and not none and len(value) != len(self.channels):
                raise ValueError(f"{name}={value} must have one entry per level of {self.channels}")
        attends = (*self.attends[:-1], True)  # the middle attends, at the last level's width
        for c, heads, attend in zip(self.channels, self.heads, attends, strict=True):
            if c % self.norm_groups:
                raise ValueError(
                    f"channels={c} must be a multiple of norm_groups={self.norm_groups}"
                )
            if attend and heads and c % heads:
                raise ValueError(f"channels={c} must be a multiple of head_channels={heads}")
        return self

    @property
    def heads(self) -> tuple[int | None, ...]:
        """`head_channels`, one per level; a level without attention may say 0."""
        h = self.head_channels
        return tuple(x or None for x in h) if isinstance(h, tuple) else (h,) * len(self.channels)

    @property
    def attends(self) -> tuple[bool, ...]:
        """`attention_levels`, one per level."""
        return self.attention_levels or (False,) * len(self.channels)

    @property
    def blocks_per_level(self) -> tuple[int, ...]:
        """`num_res_blocks`, one per level."""
        n = self.num_res_blocks
        return n if isinstance(n, tuple) else (n,) * len(self.channels)

    def build(
        self,
        in_channels: int,
        out_channels: int,
        *,
        vector_dim: int | None = None,
        token_dim: int | None = None,
        extra_channels: int = 0,
        addition_channels: int = 0,
    ) -> "UNetNet":
        """The network; a port is open where its size is given."""
        channels = in_channels + extra_channels
        return UNetNet(self, channels, out_channels, vector_dim, token_dim, addition_channels)


class UNetNet(nn.Module):
    """f(x, c_noise, vector, tokens, channels, addition) -> [B, out_channels, X, Y, Z]."""

    def __init__(
        self,
        config: UNet,
        in_channels: int,
        out_channels: int,
        vector_dim: int | None,
        token_dim: int | None,
        addition_channels: int = 0,
    ) -> None:
        super().__init__()
        self.checkpointing, self.token_dim = config.checkpointing, token_dim
        channels, emb_dim = config.channels, 4 * config.channels[0]
        res, attention = partial(res_block, config), partial(attention_block, config, token_dim)
        self.base, self.patch = channels[0], config.patch
        voxels = config.patch**3
        self.conv_in = conv3(in_channels * voxels, channels[0])
        self.add_in = (
            zeroed(nn.Conv3d(addition_channels * voxels, channels[0], 1))
            if addition_channels
            else None
        )
        self.time_embed = nn.Sequential(
            nn.Linear(channels[0], emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim)
        )
        self.vector_embed = nn.Linear(vector_dim, emb_dim, bias=False) if vector_dim else None

        last, c, skips = len(channels) - 1, channels[0], [channels[0]]
        self.down_blocks = nn.ModuleList()
        for i, (cout, n) in enumerate(zip(channels, config.blocks_per_level, strict=True)):
            level = nn.ModuleDict({"resnets": nn.ModuleList(), "attentions": nn.ModuleList()})
            for _ in range(n):
                level["resnets"].append(res(c, cout))
                if config.attends[i]:
                    level["attentions"].append(attention(i))
                c = cout
                skips.append(c)
            if i < last:
                level["downsampler"] = res(c, c, "down") if config.resblock_updown else Down(c)
                skips.append(c)
            self.down_blocks.append(level)
        self.middle_block = nn.ModuleDict(
            {"resnet_1": res(c, c), "attention": attention(last), "resnet_2": res(c, c)}
        )
        self.up_blocks = nn.ModuleList()
        for i in reversed(range(len(channels))):
            level = nn.ModuleDict({"resnets": nn.ModuleList(), "attentions": nn.ModuleList()})
            for _ in range(config.blocks_per_level[i] + 1):
                level["resnets"].append(res(c + skips.pop(), channels[i]))
                if config.attends[i]:
                    level["attentions"].append(attention(i))
                c = channels[i]
            if i > 0:
                level["upsampler"] = res(c, c, "up") if config.resblock_updown else Up(c)
            self.up_blocks.append(level)
        self.norm_out = nn.GroupNorm(config.norm_groups, c, config.norm_eps)
        self.conv_out = zeroed(conv3(c, out_channels * voxels))

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        vector: Tensor | None = None,
        tokens: Tensor | None = None,
        channels: Tensor | None = None,
        addition: Tensor | None = None,
    ) -> Tensor:
        """One estimate.

        Args:
            x: [B, C, X, Y, Z].
            c_noise: what the network is told of the noise level, [B].
            vector: [B, vector_dim].
            tokens: [B, T, token_dim].
            channels: [B, extra_channels, X, Y, Z], on the grid of x.
            addition: [B, addition_channels, X, Y, Z], likewise.

        Raises:
            AssertionError: a condition is given whose port is closed, or tokens are missing.
        """
        assert vector is None or self.vector_embed is not None, (
            "vector, but built without vector_dim"
        )
        assert (tokens is None) == (self.token_dim is None), (
            f"tokens {'missing' if tokens is None else 'given'}, but token_dim={self.token_dim}"
        )
        emb = self.time_embed(sinusoidal(c_noise, self.base))  # [B, E]
        if vector is not None:
            emb = emb + self.vector_embed(vector)
        h = self.conv_in(folded(x if channels is None else torch.cat([x, channels], 1), self.patch))
        h = h if addition is None else h + self.add_in(folded(addition, self.patch))
        skips = [h]
        for level in self.down_blocks:
            for j, block in enumerate(level["resnets"]):
                h = recompute(self.checkpointing, block, h, emb)
                if level["attentions"]:
                    h = recompute(self.checkpointing, level["attentions"][j], h, tokens)
                skips.append(h)
            if "downsampler" in level:
                h = recompute(self.checkpointing, level["downsampler"], h, emb)
                skips.append(h)
        h = recompute(self.checkpointing, self.middle_block["resnet_1"], h, emb)
        h = recompute(self.checkpointing, self.middle_block["attention"], h, tokens)
        h = recompute(self.checkpointing, self.middle_block["resnet_2"], h, emb)
        for level in self.up_blocks:
            for j, block in enumerate(level["resnets"]):
                h = recompute(self.checkpointing, block, torch.cat([h, skips.pop()], 1), emb)
                if level["attentions"]:
                    h = recompute(self.checkpointing, level["attentions"][j], h, tokens)
            if "upsampler" in level:
                h = recompute(self.checkpointing, level["upsampler"], h, emb, skips[-1])
        return unfolded(self.conv_out(nnf.silu(self.norm_out(h))), self.patch, x.shape[2:])


def res_block(config: UNet, cin: int, cout: int, resample: str | None = None) -> SteeredBlock:
    """A residual block that begins as nothing, steered by noise level and vector."""
    return SteeredBlock(
        cin,
        cout,
        groups=config.norm_groups,
        eps=config.norm_eps,
        emb_dim=4 * config.channels[0],
        resample=resample,
        adaptive=config.modulation == "adaptive",
    )


def attention_block(config: UNet, token_dim: int | None, level: int) -> nn.Module:
    """Attention at a level: among voxels, and to tokens where their port is open."""
    c, heads = config.channels[level], config.heads[level]
    norm = {"groups": config.norm_groups, "eps": config.norm_eps}
    if token_dim is None:
        return AttentionBlock(c, **norm, head_channels=heads)
    return TransformerBlock(
        c, **norm, head_channels=heads or c, token_dim=token_dim, layers=config.transformer_layers
    )
