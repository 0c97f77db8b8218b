"""The menu of autoencoders: a volume to a small latent and back."""

from vol3d.config import menu
from vol3d.models.autoencoders.kl import AutoencoderKL
from vol3d.models.autoencoders.vq import AutoencoderVQ

Autoencoder = menu("autoencoders", AutoencoderKL, AutoencoderVQ)
