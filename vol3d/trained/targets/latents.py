"""Latents of an autoencoder, which `vol3d encode` wrote: latent diffusion."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from vol3d.bundle import Bundle
from vol3d.data.fake import FakeLatents
from vol3d.data.latents import LatentImages
from vol3d.data.latents import Latents as Source
from vol3d.data.visit import Visit
from vol3d.diffusion.conditioning import COORDINATES
from vol3d.errors import ConfigError, DataError
from vol3d.io.reading import understood
from vol3d.metrics.verdict import tell_reconstruction
from vol3d.nn.precision import Precision
from vol3d.trained.autoencoder import TrainedAutoencoder
from vol3d.trained.target import Codec, Shape, Target, coordinates
from vol3d.volume import Grid

log = logging.getLogger(__name__)


class Latents(Target):
    """A latent of an autoencoder, small enough for a whole brain (Rombach et al. 2022, 2112.10752)."""

    learns_from: ClassVar = Source
    kind: Literal["latents"] = "latents"
    sample_posterior: bool = True
    """Train on draws from the autoencoder's posterior, new each time; false trains on its means."""

    def samples(self, data: Source, images: Sequence[str]) -> "LatentSamples":
        """See `Target.samples`.

        Raises:
            ConfigError: an image that guides is not among the latents.
        """
        latents = data.open()
        return LatentSamples(latents, self.sample_posterior, codec_of(latents))

    def dry_samples(self, data: LatentImages | FakeLatents) -> "LatentSamples":
        """See `Target.dry_samples`."""
        return LatentSamples(data, self.sample_posterior, None)

    def codec(
        self, bundle: Bundle, device: torch.device | str, precision: Precision
    ) -> "LatentCodec":
        """See `Target.codec`."""
        autoencoder = TrainedAutoencoder(bundle.path / "autoencoder", device, precision)
        with understood(bundle.path / "fingerprint.json"):
            told = bundle.fingerprint()["latents"]
            return LatentCodec(autoencoder, told["shift"], told["scale"])


class LatentCodec(Codec):
    """The autoencoder, and the shift and scale of each channel."""

    def __init__(
        self, autoencoder: TrainedAutoencoder, shift: Sequence[float], scale: Sequence[float]
    ) -> None:
        self.autoencoder = autoencoder
        self.channels, self.brain_level = autoencoder.z_channels, autoencoder.brain_level
        self.shift, self.scale = (
            torch.tensor(np.array(t, np.float32), device=autoencoder.device).view(1, -1, 1, 1, 1)
            for t in (shift, scale)
        )

    def shape_on(self, grid: Grid) -> Shape:
        """Of the latent."""
        return self.channels, *grid.coarser(self.autoencoder.downsample).shape

    def decode(self, x0: Tensor, shape: tuple[int, int, int] | None = None) -> Tensor:
        """See `Codec.decode`."""
        return self.autoencoder.decode(x0.to(self.shift.device) * self.scale + self.shift, shape)

    def encode_given(self, name: str, x: Tensor) -> Tensor:
        """The posterior's mean, standardised."""
        mean, _ = self.autoencoder.encode(x[None])
        return ((mean - self.shift) / self.scale)[0]

    def known_beside(self, hole: Tensor) -> Tensor:
        """The blocks that neither hold a voxel of the hole nor touch one that does.

        What is in the hole has gone into the latents of the next blocks too.
        """
        size = self.autoencoder.downsample
        x = hole[None, None].float().flip(self.autoencoder.turned)
        x = nnf.pad(x, [n for edge in reversed(x.shape[2:]) for n in (0, -edge % size)])
        touched = nnf.max_pool3d(nnf.max_pool3d(x, size), 3, stride=1, padding=1)
        return 1 - touched[0].to(self.shift.device)


class LatentSamples:
    """See `vol3d.trained.target.Samples`."""

    def __init__(
        self,
        latents: LatentImages | FakeLatents,
        sample_posterior: bool,
        codec: LatentCodec | None,
    ) -> None:
        self.latents, self.sample_posterior, self.codec = latents, sample_posterior, codec
        self.path = latents.path
        self.train, self.val, self.channels = latents.train, latents.val, latents.z_channels

    def given_channels(self, name: str) -> int:
        """See `Samples.given_channels`."""
        if name not in self.latents.contrasts:
            raise ConfigError(
                f"conditions: '{name}' is not among the latents, which are of "
                f"{', '.join(self.latents.contrasts)}; encode them with data.contrasts=[..., {name}]"
            )
        return self.channels

    def sample(
        self,
        visit: Visit,
        images: Sequence[str],
        rng: torch.Generator | None,
        *,
        with_whole: bool = False,
    ) -> dict[str, Tensor | None]:
        """See `Samples.sample`."""
        stored = self.latents.read(visit)
        z = torch.from_numpy(stored["mean"])
        if self.sample_posterior and rng is not None:
            z = z + torch.from_numpy(np.exp(stored["logvar"] / 2)) * torch.randn(
                z.shape, generator=rng
            )
        given = {n: torch.from_numpy(stored[n]) if n in stored else None for n in images}
        return {"x0": z, COORDINATES: coordinates(z.shape[1:]), **given}

    def documents(self) -> dict[str, Any]:
        """The fingerprint, and how good the autoencoder is."""
        quality = self.codec.autoencoder.quality
        return {"fingerprint": self.latents.fingerprint(), "quality": quality}

    def inside(self) -> dict[str, Any]:
        """The autoencoder."""
        return {"autoencoder": self.codec.autoencoder.path}


def codec_of(latents: LatentImages) -> LatentCodec:
    """The autoencoder that made the latents.

    Raises:
        DataError: the one beside them is another.
        ConfigError: nobody knows how good it is.
    """
    autoencoder = TrainedAutoencoder(latents.path / "autoencoder")
    if autoencoder.checksum != latents.manifest["autoencoder"]:
        raise DataError(
            f"{latents.path}: its autoencoder is not the one that made the latents; encode again"
        )
    quality = autoencoder.quality
    if not quality:
        raise ConfigError(
            f"{latents.path}: its autoencoder was never measured on held-out people; train it on "
            f"data with a validation split (data.val_fraction, or a column `split`), or import it "
            f"with data"
        )
    log.info(
        "autoencoder: in-brain PSNR %.1f dB on %d held-out scans (block averaging %.1f dB)",
        quality["psnr_brain_db"],
        quality["n"],
        quality["psnr_brain_block_average_db"],
    )
    tell_reconstruction(quality)
    return LatentCodec(autoencoder, latents.shift, latents.scale)
