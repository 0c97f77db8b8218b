"""The menu of denoisers: networks that see a noisy latent and what is known about it."""

from vol3d.config import menu
from vol3d.models.denoisers.dit import DiT
from vol3d.models.denoisers.unet import UNet

DenoiserNet = menu("denoisers", UNet, DiT)
