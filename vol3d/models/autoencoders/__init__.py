"""The menu of autoencoders: a volume to a small latent and back."""

from vol3d.models.autoencoders.kl import AutoencoderKL

Autoencoder = AutoencoderKL
"""One kind so far; more make it a union told apart by `kind`."""
