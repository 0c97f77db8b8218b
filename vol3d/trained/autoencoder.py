"""A trained autoencoder: volumes to latents and back."""

from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from vol3d.bundle import Bundle
from vol3d.config import Config
from vol3d.data.brain import USUAL
from vol3d.data.images import grids_of
from vol3d.io.reading import understood
from vol3d.models.autoencoders import Autoencoder
from vol3d.nn.cuda_graphs import Replayed
from vol3d.nn.precision import Precision, autocast, resolve
from vol3d.volume import Grid

Orientation = Annotated[str, Field(pattern="^[RL][AP][SI]$")]
"""Where the three axes of an image point."""


class AutoencoderBundle(Config):
    """The config in an autoencoder's bundle."""

    kind: Literal["autoencoder"] = "autoencoder"
    model: Autoencoder
    """The network."""
    orientation: Orientation = "RAS"
    """Where the axes point in images as the network knows them; scans are turned to that and back."""
    gain: PositiveFloat = 1.0
    """The network's intensities are so many times ours."""


class TrainedAutoencoder:
    """Encodes and decodes whole volumes.

    Attributes:
        quality: measures on held-out people; empty if it was never measured.
        brain_level: where the brain ends in what it decodes (`vol3d.data.brain`).
        downsample: linear factor between a volume and its latent.
    """

    def __init__(
        self,
        path: Path | str,
        device: torch.device | str = "cpu",
        precision: Precision = "auto",
    ) -> None:
        bundle = Bundle(path, "autoencoder")
        self.path, self.checksum = bundle.path, bundle.checksum
        self.quality: dict = bundle.document("quality")
        with understood(self.path / "quality.json"):
            self.brain_level = float(self.quality.get("brain_level", USUAL))
        self.fingerprint: dict = bundle.fingerprint()
        settings = bundle.settings(AutoencoderBundle)
        self.orientation, self.gain = settings.orientation, settings.gain
        self.turned = [2 + i for i in range(3) if settings.orientation[i] != "RAS"[i]]  # axes
        self.net = settings.model.build(in_channels=1)
        bundle.fill(self.net)
        self.net.to(device, memory_format=torch.channels_last_3d).eval()
        self.decoded = Replayed(self.net.decode)
        self.device = torch.device(device)
        self.precision = resolve(precision, self.device)
        self.downsample: int = self.net.downsample
        self.z_channels: int = self.net.z_channels

    @property
    def grid(self) -> Grid:
        """The grid of the scans it was trained on; the finest of several."""
        return self.grids[0]

    @property
    def grids(self) -> list[Grid]:
        """All grids that it was trained on."""
        return grids_of(self.fingerprint)

    def latent_grid(self, grid: Grid) -> Grid:
        """Where the voxels of the latent lie, for a scan on a grid in RAS+."""
        return grid.turned(self.orientation).coarser(self.downsample)

    @torch.inference_mode()
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, 1, X, Y, Z] in [0, 1] -> posterior mean and log-variance [B, C, x, y, z].

        x is in RAS+, the latent in the network's own orientation.
        """
        x = self.gain * x.to(self.device).flip(self.turned)
        with autocast(self.device, self.precision):
            posterior = self.net.encode(channels_last(x))
        return posterior.mean.float(), posterior.logvar.float()

    @torch.inference_mode()
    def decode(self, z: Tensor, shape: tuple[int, int, int] | None = None) -> Tensor:
        """z [B, C, x, y, z] -> volumes [B, 1, *shape] in [0, 1], RAS+ again; one after the other."""
        with autocast(self.device, self.precision):
            made = [self.decoded(channels_last(z.to(self.device)), shape) for z in z.split(1)]
        x = torch.cat(made).float()
        return (x / self.gain).clamp(0, 1).flip(self.turned)

    def reconstruct(self, x: Tensor) -> Tensor:
        """x [B, 1, X, Y, Z] in [0, 1], through the posterior's mean and back."""
        return self.decode(self.encode(x)[0], tuple(x.shape[2:]))


def channels_last(x: Tensor) -> Tensor:
    """The memory layout in which 3-D convolutions are fastest."""
    return x.contiguous(memory_format=torch.channels_last_3d)
