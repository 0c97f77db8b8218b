"""An autoencoder as Python sees it: volumes to latents and back, each with its place."""

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import InstanceOf

from vol3d.api.arguments import ruled_by
from vol3d.api.images import Image, seen
from vol3d.data.network_images import as_seen
from vol3d.errors import ConfigError, DataError
from vol3d.io.text import kind_of
from vol3d.trained import TrainedAutoencoder
from vol3d.volume import Grid, Volume


@dataclass(frozen=True, eq=False)
class Latent:
    """What an autoencoder makes of a volume: a normal distribution for each number of its latent.

    Attributes:
        mean: [C, x, y, z] float32.
        logvar: [C, x, y, z] float32.
        grid: where the latent's voxels lie.
        image_grid: of the volume, in RAS+, to which it is decoded.
        space_code: of the volume, see `Volume`.
    """

    mean: np.ndarray
    logvar: np.ndarray
    grid: Grid
    image_grid: Grid
    space_code: int

    @property
    def std(self) -> np.ndarray:
        """[C, x, y, z] standard deviation."""
        return np.exp(self.logvar / 2)


class Autoencoder:
    """Compresses volumes into latents, and back.

    Attributes:
        model: what is beneath, with tensors; not stable.
    """

    def __init__(self, model: TrainedAutoencoder) -> None:
        self.model = model

    @property
    def grid(self) -> Grid:
        """Of the scans that it learnt from; the finest of several."""
        return self.model.grid

    @ruled_by()
    def encode(self, image: Image) -> Latent:
        """The latent of a brain, as `vol3d encode` writes it.

        Args:
            image: file or volume, 0 outside the brain, with voxels of a size that it learnt from;
                intensities become [0, 1] (see `vol3d.data.network_images`).

        Raises:
            DataError: the image cannot be read, or has voxels of another size.
        """
        volume = as_seen(seen(image, "image"))
        known = [g.spacing for g in self.model.grids]
        if not any(np.allclose(volume.spacing, k, rtol=0.01) for k in known):
            raise DataError(
                f"image: has voxels of {volume.spacing} mm, {self.model.path} learnt from "
                f"{', '.join(map(str, known))} mm; resample it: volume.resample(model.grid)"
            )
        posterior = self.model.encode(torch.from_numpy(volume.data)[None, None])
        mean, logvar = (t[0].cpu().numpy() for t in posterior)
        grid = volume.grid
        return Latent(mean, logvar, self.model.latent_grid(grid), grid, volume.space_code)

    @ruled_by()
    def decode(self, latent: InstanceOf[Latent]) -> Volume:
        """The volume of a latent's mean: in [0, 1], RAS+.

        Raises:
            ConfigError: the latent is of another autoencoder, or its numbers are no longer its own.
        """
        if len(latent.mean) != self.model.z_channels:
            raise ConfigError(
                f"latent: has {len(latent.mean)} channels, {self.model.path} has "
                f"{self.model.z_channels}; it is of another autoencoder"
            )
        shape = self.model.latent_grid(latent.image_grid).shape
        if latent.mean.shape[1:] != shape or not np.isfinite(latent.mean).all():
            raise ConfigError(
                f"latent: finite numbers {[len(latent.mean), *shape]} are due for an image of "
                f"{latent.image_grid}, got {kind_of(latent.mean)}"
            )
        z = torch.from_numpy(latent.mean).float()[None]
        x = self.model.decode(z, latent.image_grid.shape)[0, 0].cpu().numpy()
        return Volume(x, latent.image_grid.affine, latent.space_code)

    def reconstruct(self, image: Image) -> Volume:
        """There and back: what is left of a brain, in [0, 1], RAS+; see `encode`."""
        return self.decode(self.encode(image))

    def __repr__(self) -> str:
        kind = f"{self.model.z_channels} channels, {self.model.downsample} times coarser"
        return f"Autoencoder {self.model.path}: {self.grid} to a latent of {kind}"
