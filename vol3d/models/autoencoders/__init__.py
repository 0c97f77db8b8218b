"""The menu of autoencoders: a volume to a small latent and back.

Each builds a network with `encode(x) -> Posterior` over z [B, C, x, y, z], x = ceil(X / downsample), and
`decode(z, shape)`; called with x and normal noise of the latent's shape, drawn per image, it makes a
training pass, a `Reconstruction`. It tells `z_channels`, `downsample`, and `last_layer`, the convolution
that makes the voxels, where the adversarial loss is balanced.
"""

from vol3d.config import menu
from vol3d.models.autoencoders.kl import AutoencoderKL
from vol3d.models.autoencoders.vq import AutoencoderVQ

Autoencoder = menu("autoencoders", AutoencoderKL, AutoencoderVQ)
