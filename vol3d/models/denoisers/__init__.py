"""The menu of denoisers: networks that see a noisy latent and what is known about it."""

from typing import Annotated

from pydantic import Field

from vol3d.models.denoisers.dit import DiT
from vol3d.models.denoisers.unet import UNet

DenoiserNet = Annotated[UNet | DiT, Field(discriminator="kind")]
