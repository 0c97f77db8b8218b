"""The 3-D diffusion U-Net with ports for a vector, tokens, channels and addition."""

from collections.abc import Callable
from functools import partial
from itertools import count, pairwise
from typing import Literal

import torch
import torch.nn.functional as nnf
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.errors import ConfigError
from vol3d.nn import slab_inference as inference
from vol3d.nn.attention import AttentionBlock, TransformerBlock
from vol3d.nn.blocks import Down, SteeredBlock, Up, affine, conv3, merge, recompute, zeroed
from vol3d.nn.embed import sinusoidal
from vol3d.nn.fold import folded, unfolded
from vol3d.nn.norm import check_groups, norm
from vol3d.nn.slab_layers import laid, norm_conv
from vol3d.nn.slab_volume import Slabbed, kept, whole

OnBlock = Callable[[int, Tensor], None]
LARGE = 2**18
"""Voxels from which a call without gradients goes image by image and slab by slab."""


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
    """Which levels attend; none if empty."""
    middle_attention: bool = True
    """Attention among all voxels of the middle, at the coarsest grid. What a voxel then sees depends on
    the extent, so a network for patches does without (PatchDDM)."""
    skips: Literal["concat", "add"] = "concat"
    """What came down joins what goes up as channels beside it, or as their mean (PatchDDM, Bieder et
    al., MIDL 2023): a quarter to two fifths fewer weights, less memory."""
    head_channels: PositiveInt | tuple[NonNegativeInt, ...] | None = None
    """Channels of an attention head, or one per level; null is a single head."""
    norm_groups: PositiveInt = 8
    """Groups of the group norm."""
    norm_eps: float = 1e-6
    """Epsilon of the norm."""
    norm: Literal["group", "channel"] = "group"
    """Over groups of channels and all voxels; or over the channels of each voxel, so that a patch is
    normed as the volume that it is of."""
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
        for name in ("num_res_blocks", "attention_levels", "head_channels"):
            value = getattr(self, name)
            none = name == "attention_levels" and value == ()
            if isinstance(value, tuple) and not none and len(value) != len(self.channels):
                raise ValueError(f"{name}={value} must have one entry per level of {self.channels}")
        if self.groups:
            check_groups(self.channels, self.groups)
        for i, heads in enumerate(self.heads):
            for c in self.attended(i) if heads else ():
                if c % heads:
                    raise ValueError(f"channels={c} must be a multiple of head_channels={heads}")
        return self

    def attended(self, level: int) -> tuple[int, ...]:
        """Widths of what attends at a level; the middle is at the last one's."""
        c, is_last = self.channels[level], level == len(self.channels) - 1
        if not self.attends[level]:
            return (c,) if is_last and self.middle_attention else ()
        # With added skips the last block going up has the width of the level above.
        return (c, self.channels[level - 1]) if self.skips == "add" and level else (c,)

    @property
    def groups(self) -> int | None:
        """Groups of the norms; None if it is the channel norm."""
        return self.norm_groups if self.norm == "group" else None

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
        """The network; a port is open where its size is given.

        Raises:
            ConfigError: tokens are to be attended to, and nothing attends.
        """
        if token_dim and not (self.middle_attention or any(self.attends)):
            raise ConfigError(
                "task.model.middle_attention=false and no attention_levels: nothing attends to tokens; "
                "switch one on, or send the covariates another way (task.conditions)"
            )
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
        self.is_added = config.skips == "add"
        channels, emb_dim = config.channels, 4 * config.channels[0]
        res, blocks = partial(res_block, config), partial(blocks_of_level, config, token_dim)
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
            level = blocks(i, [c] + [cout] * n)
            c = cout
            skips += [c] * n
            if i < last:
                level["downsampler"] = res(c, c, "down") if config.resblock_updown else Down(c)
                skips.append(c)
            self.down_blocks.append(level)
        self.middle_block = nn.ModuleDict({"resnet_1": res(c, c)})
        if config.middle_attention:
            self.middle_block["attention"] = attention_block(config, token_dim, last, c)
        self.middle_block["resnet_2"] = res(c, c)
        self.up_blocks = nn.ModuleList()
        self.features: list[tuple[int, int]] = []
        """Of each residual block of the way up: its channels, and how often coarser its grid is."""
        for i in reversed(range(len(channels))):
            n = config.blocks_per_level[i] + 1
            joined, skips = skips[-n:], skips[:-n]
            if self.is_added:  # each block gives what the next sum needs
                widths = [*reversed(joined), skips[-1] if skips else channels[0]]
                level, c = blocks(i, widths), widths[-1]
            else:
                level, c = blocks(i, [c] + [channels[i]] * n, joined[::-1]), channels[i]
            self.features += [(b.conv2.out_channels, config.patch * 2**i) for b in level["resnets"]]
            if i > 0:
                level["upsampler"] = res(c, c, "up") if config.resblock_updown else Up(c)
            self.up_blocks.append(level)
        self.norm_out = norm(c, config.groups, config.norm_eps)
        self.conv_out = zeroed(conv3(c, out_channels * voxels))

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        vector: Tensor | None = None,
        tokens: Tensor | None = None,
        channels: Tensor | None = None,
        addition: Tensor | None = None,
        on_block: OnBlock | None = None,
    ) -> Tensor:
        """One estimate.

        Args:
            x: [B, C, X, Y, Z].
            c_noise: what the network is told of the noise level, [B].
            vector: [B, vector_dim].
            tokens: [B, T, token_dim].
            channels: [B, extra_channels, X, Y, Z], on the grid of x.
            addition: [B, addition_channels, X, Y, Z], likewise.
            on_block: told the features after each residual block of the way up, and which it is (see
                `features`). Large images come to it one after another.

        Raises:
            AssertionError: a condition is given whose port is closed, or tokens are missing.
        """
        assert vector is None or self.vector_embed is not None, (
            "vector, but built without vector_dim"
        )
        assert (tokens is None) == (self.token_dim is None), (
            f"tokens {'missing' if tokens is None else 'given'}, but token_dim={self.token_dim}"
        )
        inside = folded(x if channels is None else torch.cat([x, channels], 1), self.patch)
        added = None if addition is None else folded(addition, self.patch)
        if is_large(inside) and len(x) > 1:
            given = (x, c_noise, vector, tokens, channels, addition)
            images = ([None if t is None else t[n : n + 1] for t in given] for n in range(len(x)))
            return torch.cat([self(*image, on_block) for image in images])
        emb = self.embedded(c_noise, vector)
        h = self.first(inside, added)
        skips = [kept(h)]
        for level in self.down_blocks:
            for j in range(len(level["resnets"])):
                h = self.block(level, j, h, emb, tokens)
                skips.append(kept(h))
            if "downsampler" in level:
                h = recompute(self.checkpointing, level["downsampler"], h, emb)
                skips.append(kept(h))
        h = recompute(self.checkpointing, self.middle_block["resnet_1"], h, emb)
        if "attention" in self.middle_block:
            h = recompute(self.checkpointing, self.middle_block["attention"], h, tokens)
        h = recompute(self.checkpointing, self.middle_block["resnet_2"], h, emb)
        blocks = count()
        for level in self.up_blocks:
            for j in range(len(level["resnets"])):
                h = self.block(level, j, merge(h, skips.pop(), self.is_added), emb, tokens)
                if on_block:
                    on_block(next(blocks), whole(h))
            if "upsampler" in level:
                h = recompute(self.checkpointing, level["upsampler"], h, emb, skips[-1])
        return unfolded(self.last(h), self.patch, x.shape[2:])

    def embedded(self, c_noise: Tensor, vector: Tensor | None) -> Tensor:
        """What steers every block, [B, E]."""
        emb = self.time_embed(sinusoidal(c_noise, self.base))
        return emb if vector is None else emb + self.vector_embed(vector)

    def block(
        self, level: nn.ModuleDict, j: int, h: Tensor | Slabbed, emb: Tensor, tokens: Tensor | None
    ) -> Tensor | Slabbed:
        """The j-th residual block of a level, and its attention if it has one."""
        h = recompute(self.checkpointing, level["resnets"][j], h, emb)
        if level["attentions"]:
            h = recompute(self.checkpointing, level["attentions"][j], h, tokens)
        return h

    def first(self, x: Tensor, addition: Tensor | None) -> Tensor | Slabbed:
        """The first features; of a large image without gradients in slabs."""
        if not is_large(x):
            h = self.conv_in(x)
            return h if addition is None else h + self.add_in(addition)
        weight, bias = self.conv_in.weight, self.conv_in.bias
        if addition is not None:  # one convolution of both: what is added is its centre
            x = torch.cat([x, addition], 1)
            weight = torch.cat([weight, nnf.pad(self.add_in.weight, (1,) * 6)], 1)
            bias = bias + self.add_in.bias
        x = laid(x)
        cuts = inference.level_cuts(x.shape[2:], self.base, x)
        return inference.conv_in(x, weight, bias, cuts=cuts)

    def last(self, h: Tensor | Slabbed) -> Tensor:
        """The estimate from the last features."""
        if isinstance(h, Slabbed):
            conv = self.conv_out.weight, self.conv_out.bias
            return norm_conv(h, affine(self.norm_out), conv, is_active=True)
        return self.conv_out(nnf.silu(self.norm_out(h)))


def is_large(x: Tensor) -> bool:
    """Whether a call goes image by image and slab by slab: the same in less memory."""
    return not torch.is_grad_enabled() and x[0, 0].numel() >= LARGE and 1 not in x.shape[2:]


def res_block(config: UNet, cin: int, cout: int, resample: str | None = None) -> SteeredBlock:
    """A residual block that begins as nothing, steered by noise level and vector."""
    return SteeredBlock(
        cin,
        cout,
        groups=config.groups,
        eps=config.norm_eps,
        emb_dim=4 * config.channels[0],
        resample=resample,
        adaptive=config.modulation == "adaptive",
    )


def blocks_of_level(
    config: UNet,
    token_dim: int | None,
    level: int,
    widths: list[int],
    beside: list[int] | None = None,
) -> nn.ModuleDict:
    """Residual blocks from width to width, with more channels `beside` each input; and attention."""
    made = nn.ModuleDict({"resnets": nn.ModuleList(), "attentions": nn.ModuleList()})
    for j, (cin, cout) in enumerate(pairwise(widths)):
        made["resnets"].append(res_block(config, cin + (beside[j] if beside else 0), cout))
        if config.attends[level]:
            made["attentions"].append(attention_block(config, token_dim, level, cout))
    return made


def attention_block(config: UNet, token_dim: int | None, level: int, c: int) -> nn.Module:
    """Attention at a level, of c channels: among voxels, and to tokens where their port is open."""
    heads, how = config.heads[level], {"groups": config.groups, "eps": config.norm_eps}
    if token_dim is None:
        return AttentionBlock(c, **how, head_channels=heads)
    return TransformerBlock(
        c, **how, head_channels=heads or c, token_dim=token_dim, layers=config.transformer_layers
    )
