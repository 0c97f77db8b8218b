"""The menu of denoisers: networks that see a noisy latent and what is known about it."""

from vol3d.models.denoisers.unet import UNet

DenoiserNet = UNet
"""One kind so far; more make it a union told apart by `kind`."""
