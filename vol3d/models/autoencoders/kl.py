"""The KL-regularised autoencoder of latent diffusion (Rombach et al. 2022, arXiv:2112.10752)."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as nnf
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.nn.blocks import AttentionBlock, Down, ResBlock, Up, conv3, fold, recompute, unfold


@dataclass(frozen=True)
class Posterior:
    """A normal distribution over each latent element: mean and logvar, each [B, C, x, y, z]."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """A draw, given standard normal noise of the mean's shape."""
        return self.mean + (self.logvar / 2).exp() * noise

    def kl(self) -> Tensor:
        """Divergence from the standard normal, in nats per latent element, of each image [B]."""
        mean, logvar = self.mean.float(), self.logvar.float()
        return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).mean(1)


class AutoencoderKL(Config):
    """Residual blocks around strided convolutions; a normal posterior in the middle.

    With `patch: 1` it is MONAI's AutoencoderKL layer by layer.
    """

    kind: Literal["kl"] = "kl"
    channels: tuple[PositiveInt, ...] = (32, 64)
    """Channels of each level; every level but the last halves the grid."""
    z_channels: PositiveInt = 4
    """Channels of the latent."""
    patch: PositiveInt = 2
    """Blocks of patch^3 voxels are folded into channels before the first layer, which saves most of
    the time and memory; 1 folds nothing."""
    num_res_blocks: PositiveInt | tuple[PositiveInt, ...] = 1
    """Residual blocks of each level."""
    attention_levels: tuple[bool, ...] = ()
    """Which levels attend; none if empty."""
    mid_attention_encoder: bool = False
    """Attention between two residual blocks before the latent."""
    mid_attention_decoder: bool = False
    """The same after it."""
    norm_groups: PositiveInt = 8
    """Groups of the group norm."""
    norm_eps: float = 1e-6
    """Epsilon of the group norm."""
    transposed: bool = False
    """Transposed convolutions to go up, instead of repeating voxels."""
    checkpointing: bool = False
    """Compute activations again in the backward pass, block by block: less memory, more time."""

    @model_validator(mode="after")
    def check_levels(self) -> "AutoencoderKL":
        """Every level has its settings, and its channels fit the norm's groups."""
        if not self.channels:
            raise ValueError("channels=() must name at least one level")
        for name in ("num_res_blocks", "attention_levels"):
            value = getattr(self, name)
            none = name == "attention_levels" and value == ()
            if isinstance(value, tuple) and not none and len(value) != len(self.channels):
                raise ValueError(f"{name}={value} must have one entry per level of {self.channels}")
        for c in self.channels:
            if c % self.norm_groups:
                raise ValueError(
                    f"channels={c} must be a multiple of norm_groups={self.norm_groups}"
                )
        return self

    @property
    def blocks_per_level(self) -> tuple[int, ...]:
        """`num_res_blocks`, one per level."""
        n = self.num_res_blocks
        return n if isinstance(n, tuple) else (n,) * len(self.channels)

    @property
    def attends(self) -> tuple[bool, ...]:
        """`attention_levels`, one per level."""
        return self.attention_levels or (False,) * len(self.channels)

    def build(self, in_channels: int = 1) -> "KLNet":
        """The network for volumes [B, in_channels, X, Y, Z]."""
        return KLNet(self, in_channels)


class KLNet(nn.Module):
    """`encode(x) -> Posterior`, `decode(z, shape) -> x`."""

    def __init__(self, config: AutoencoderKL, in_channels: int) -> None:
        super().__init__()
        self.patch, self.z_channels = config.patch, config.z_channels
        self.downsample = config.patch * 2 ** (len(config.channels) - 1)
        folded, z = in_channels * config.patch**3, config.z_channels
        self.encoder = Encoder(config, folded)
        self.decoder = Decoder(config, folded)
        self.quant_conv_mu = nn.Conv3d(z, z, 1)
        self.quant_conv_log_sigma = nn.Conv3d(z, z, 1)
        self.post_quant_conv = nn.Conv3d(z, z, 1)

    @property
    def last_layer(self) -> nn.Conv3d:
        """The convolution that makes the voxels; where the adversarial loss is balanced."""
        return self.decoder.blocks[-1]

    def encode(self, x: Tensor) -> Posterior:
        """x [B, 1, X, Y, Z] -> the posterior over z [B, C, x, y, z], x = ceil(X / downsample).

        Where an axis does not divide, zeros are added at its high end.
        """
        rest = [-n % self.downsample for n in x.shape[2:]]
        if any(rest):
            x = nnf.pad(x, (0, rest[2], 0, rest[1], 0, rest[0]))
        h = self.encoder(fold(x, self.patch) if self.patch > 1 else x)
        # MONAI's head predicts the logarithm of the variance and clamps it to this range.
        return Posterior(self.quant_conv_mu(h), self.quant_conv_log_sigma(h).clamp(-30.0, 20.0))

    def decode(self, z: Tensor, shape: tuple[int, int, int] | None = None) -> Tensor:
        """z [B, C, x, y, z] -> [B, 1, *shape]; without a shape, all of it."""
        x = self.decoder(self.post_quant_conv(z))
        x = unfold(x, self.patch) if self.patch > 1 else x
        return x if shape is None else x[:, :, : shape[0], : shape[1], : shape[2]]


class Encoder(nn.Module):
    """Residual blocks level by level, each level at half the grid."""

    def __init__(self, config: AutoencoderKL, in_channels: int) -> None:
        super().__init__()
        self.checkpointing = config.checkpointing
        norm = {"groups": config.norm_groups, "eps": config.norm_eps}
        blocks, c = [conv3(in_channels, config.channels[0])], config.channels[0]
        levels = list(zip(config.channels, config.blocks_per_level, config.attends, strict=True))
        for i, (cout, n, attend) in enumerate(levels):
            for _ in range(n):
                blocks.append(ResBlock(c, cout, **norm))
                blocks += [AttentionBlock(cout, **norm)] if attend else []
                c = cout
            blocks += [Down(c, padding=0)] if i + 1 < len(levels) else []
        if config.mid_attention_encoder:
            blocks += [ResBlock(c, c, **norm), AttentionBlock(c, **norm), ResBlock(c, c, **norm)]
        blocks += [
            nn.GroupNorm(config.norm_groups, c, config.norm_eps),
            conv3(c, config.z_channels),
        ]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """[B, folded, X, Y, Z] -> [B, z_channels, x, y, z]."""
        for block in self.blocks:
            x = recompute(self.checkpointing, block, x)
        return x


class Decoder(nn.Module):
    """The encoder's mirror image."""

    def __init__(self, config: AutoencoderKL, out_channels: int) -> None:
        super().__init__()
        self.checkpointing = config.checkpointing
        norm = {"groups": config.norm_groups, "eps": config.norm_eps}
        c = config.channels[-1]
        blocks = [conv3(config.z_channels, c)]
        if config.mid_attention_decoder:
            blocks += [ResBlock(c, c, **norm), AttentionBlock(c, **norm), ResBlock(c, c, **norm)]
        levels = list(zip(config.channels, config.blocks_per_level, config.attends, strict=True))[
            ::-1
        ]
        for i, (cout, n, attend) in enumerate(levels):
            for _ in range(n):
                blocks.append(ResBlock(c, cout, **norm))
                blocks += [AttentionBlock(cout, **norm)] if attend else []
                c = cout
            blocks += [Up(c, transposed=config.transposed)] if i + 1 < len(levels) else []
        blocks += [nn.GroupNorm(config.norm_groups, c, config.norm_eps), conv3(c, out_channels)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, z: Tensor) -> Tensor:
        """[B, z_channels, x, y, z] -> [B, folded, X, Y, Z]."""
        for block in self.blocks:
            z = recompute(self.checkpointing, block, z)
        return z
