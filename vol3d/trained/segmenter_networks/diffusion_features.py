"""A generator's features, reused: its denoiser has seen many brains, and few labels teach a small head.

Baranchuk et al. 2022 (ICLR, arXiv:2112.03126): noise is added to an image, and what the blocks of the
denoiser's way up make of it is classified voxel by voxel. Rousseau et al. 2023 (arXiv:2303.05966): the
denoiser itself is trained on, as a network that was pre-trained.
"""

from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as nnf
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from vol3d.bundle import Bundle
from vol3d.config import Config
from vol3d.data.covariates import Covariates
from vol3d.data.rng import torch_rng
from vol3d.diffusion.condition import Condition
from vol3d.diffusion.conditioning import COORDINATES, COVARIATES, Known
from vol3d.diffusion.model import Diffusion, DiffusionNet
from vol3d.errors import ConfigError
from vol3d.io.reading import understood
from vol3d.models.denoisers.unet import OnBlock, UNetNet
from vol3d.models.segmenters.base import SegmenterNetwork, dropped, rngs_of
from vol3d.nn.blocks import to_size
from vol3d.nn.norm import ChannelNorm
from vol3d.nn.suspended import suspended
from vol3d.trained.generator import DiffusionBundle
from vol3d.trained.target import coordinates
from vol3d.trained.targets.images import Images

EPS = 1e-5
"""Of the norms."""


class DiffusionFeatures(SegmenterNetwork):
    """The features of a diffusion model that draws images, and a small head: for few labels."""

    kind: Literal["diffusion_features"] = "diffusion_features"
    of: Path | None = None
    """The diffusion model: a run or a bundle, trained with task.target=images and a U-Net."""
    generator: dict[str, Any] | None = None
    """What that model is made of. A bundle keeps it, with the weights, in the place of `of`."""
    sigma: tuple[PositiveFloat, ...] = Field(default=(0.05, 0.2), min_length=1)
    """Noise levels at which it is asked: the noise's share, sigma / alpha, where images have unit
    variance. The noise is the same each time."""
    blocks: tuple[NonNegativeInt, ...] = ()
    """Residual blocks of its way up whose features are taken, 0 at the coarsest grid; all if empty."""
    width: PositiveInt = 64
    """Channels of the head."""
    tune: bool = False
    """Train the generator's weights too, not the head alone."""

    @model_validator(mode="after")
    def check_source(self) -> "DiffusionFeatures":
        """There is one generator."""
        if (self.of is None) == (self.generator is None):
            raise ValueError("of: the run or bundle of a diffusion model is due")
        return self

    def source(self) -> "Generator":
        """What the generator is made of.

        Raises:
            ConfigError: there is none, or its features cannot be taken.
        """
        with suspended():  # noise levels are checked by their numbers
            return Generator.parse(self.generator) if self.of is None else Generator.of(self.of)

    def kept(self) -> Self:
        """See `SegmenterNetwork.kept`: the path goes, and what lay there is described."""
        return self.model_copy(update={"of": None, "generator": self.source().dump()})

    @property
    def knows_place(self) -> bool:
        """See `SegmenterNetwork.knows_place`: a generator may be told where each voxel lies."""
        return self.source().network.wants_coordinates

    def build(self, in_channels: int, num_labels: int) -> nn.Module:
        """See `SegmenterNetwork.build`; with the generator's weights, if it is named by a path.

        Raises:
            ConfigError: the features cannot be taken.
        """
        if in_channels != 1:
            raise ConfigError(f"model.kind={self.kind}: takes one image; name one of contrasts")
        net = FeaturesNet(self, self.source(), num_labels)
        if self.of is not None:
            Bundle(self.of, "diffusion").fill(net.generator)
        return net


class Generator(Config):
    """What a generator of images is made of, as far as its features are wanted."""

    network: Diffusion
    """Its network and noise."""
    covariates: dict[str, Any]
    """The schema of the covariates it may be told, none of which is known here."""
    images: dict[str, PositiveInt]
    """Likewise the images that may guide it, and their channels."""
    shift: float
    """Taken off intensities from 0 to 1."""
    scale: PositiveFloat
    """Then they are divided by this."""
    checksum: str
    """Of its bundle."""

    @classmethod
    def of(cls, path: Path) -> Self:
        """That of a bundle.

        Raises:
            ConfigError: it is no diffusion model that draws images.
        """
        bundle = Bundle(path, "diffusion")
        settings = bundle.settings(DiffusionBundle)
        if not isinstance(settings.target, Images):
            raise ConfigError(
                f"{path}: draws {settings.target.kind}; features are those of a diffusion model that "
                f"draws images (task.target=images)"
            )
        if settings.context != "none" or settings.numbers:
            raise ConfigError(
                f"{path}: has a coarse context or hidden numbers, which are not known here; features are "
                f"those of a diffusion model without"
            )
        codec, told = settings.target.codec(bundle, "cpu", "fp32"), settings.dump()
        return cls.parse(
            {
                "network": {name: told[name] for name in Diffusion.model_fields},
                "covariates": bundle.document("covariates"),
                "images": {name: codec.given_channels(name) for name in settings.images},
                "shift": codec.shift,
                "scale": codec.scale,
                "checksum": bundle.checksum,
            }
        )

    def build(self) -> DiffusionNet:
        """The network, for weights to come.

        Raises:
            ConfigError: it has no blocks with features.
        """
        net = self.network.build(Known(self.schema, 1, self.images))
        if not isinstance(net.denoiser.net, UNetNet):
            raise ConfigError(
                f"model.of: a {self.network.model.kind} has no blocks whose features could be taken; "
                f"a diffusion model with a U-Net is due"
            )
        return net

    @property
    def schema(self) -> Covariates:
        """The covariates it may be told."""
        with understood(Path("covariates")):
            return Covariates.parse(self.covariates)


class FeaturesNet(nn.Module):
    """A denoiser, taps of its features, and a head that sees each voxel by itself."""

    def __init__(self, config: DiffusionFeatures, source: Generator, num_labels: int) -> None:
        super().__init__()
        self.source, self.schema = source, source.schema
        self.sigma, self.tune, self.dropout = config.sigma, config.tune, config.dropout
        self.generator = source.build().requires_grad_(config.tune)
        there = self.generator.denoiser.net.features
        self.blocks = list(config.blocks) or [*range(len(there))]
        if max(self.blocks) >= len(there):
            raise ConfigError(
                f"model.blocks: the generator has {len(there)}, from 0; got {self.blocks}"
            )
        self.taps = nn.ModuleList(
            nn.ModuleDict({f"{block}": Tap(*there[block], config.width) for block in self.blocks})
            for _ in self.sigma
        )
        self.head = nn.Sequential(
            ChannelNorm(config.width, EPS),
            nn.SiLU(),
            nn.Conv3d(config.width, config.width, 1),
            ChannelNorm(config.width, EPS),
            nn.SiLU(),
            nn.Conv3d(config.width, num_labels, 1),
        )

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """[B, 1, X, Y, Z] -> [B, num_labels, X, Y, Z]; with `seeds` of the images [B], with dropout."""
        return self.head(dropped(self.features(x), self.dropout, rngs_of(seeds)))

    def features(self, x: Tensor) -> Tensor:
        """All features of images [B, 1, X, Y, Z], concatenated and mixed, [B, width, X, Y, Z]."""
        wanted = torch.is_grad_enabled()
        learns = wanted and self.tune
        if len(x) > 1 and not learns:  # as large ones do in any case; and it takes less memory
            return torch.cat([self.features(image) for image in x.split(1)])
        total: list[Tensor] = []
        for taps, sigma in zip(self.taps, self.sigma, strict=True):

            def on_block(block: int, h: Tensor, taps: nn.ModuleDict = taps) -> None:
                if block in self.blocks:
                    with torch.set_grad_enabled(wanted):
                        mixed = taps[f"{block}"](h, x)
                        total[:] = [total[0] + mixed] if total else [mixed]

            with torch.set_grad_enabled(learns):
                self.ask(x, sigma, on_block)
        return total[0]

    def ask(self, x: Tensor, sigma: float, on_block: OnBlock) -> None:
        """Show the denoiser images with so much noise, and have its features told."""
        denoiser, shape = self.generator.denoiser, x.shape[1:]
        x0 = (x.float() - self.source.shift) / self.source.scale
        noise = torch.randn(shape, generator=torch_rng("features", *shape)).to(x0)
        level = denoiser.schedule.matching(torch.tensor(sigma, dtype=torch.float64))
        alpha, level, scale_in, c_noise = denoiser.coefficients(x0, level)
        noisy = scale_in * (alpha * x0 + level * noise)
        denoiser.net(noisy, c_noise, **self.nothing_known(x0).ports(), on_block=on_block)

    def nothing_known(self, x: Tensor) -> Condition:
        """What guides the denoiser where neither covariates nor other images are known."""
        shape, n = x.shape[2:], len(x)
        row = torch.tensor([self.schema.encode({})] * n, device=x.device)
        given = {name: x.new_zeros(n, K + 1, *shape) for name, K in self.source.images.items()}
        if self.source.network.wants_coordinates:
            given[COORDINATES] = coordinates(shape, device=x.device).expand(n, -1, *shape)
        return self.generator.condition({COVARIATES: row, **given}, shape)


class Tap(nn.Module):
    """A block's features, normed, as its part of the first layer of the head.

    A convolution of 1x1x1 voxels of concatenated features is the sum of those of each; and it may come
    before the grid is made finer, where it costs less. So they are never concatenated.
    """

    def __init__(self, channels: int, coarser: int, width: int) -> None:
        super().__init__()
        self.coarser = coarser
        self.norm, self.conv = ChannelNorm(channels, EPS), nn.Conv3d(channels, width, 1)

    def forward(self, h: Tensor, size_of: Tensor) -> Tensor:
        """[B, channels, x, y, z] -> [B, width, X, Y, Z] on the grid of `size_of`."""
        h = self.conv(self.norm(h))
        if self.coarser > 1:
            h = nnf.interpolate(h, scale_factor=float(self.coarser), mode="trilinear")
        return to_size(h, size_of)
