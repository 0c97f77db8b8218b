"""How large everything is: as in BrainLDM, and small enough for a test."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """Networks in MONAI's words, and the volumes they see.

    Attributes:
        volume: voxels of a whole brain at 1 mm.
        half: the same at 2 mm.
        autoencoder: what differs from MONAI's defaults in AutoencoderKL.
        unet: the same of DiffusionModelUNet.
    """

    volume: tuple[int, int, int]
    half: tuple[int, int, int]
    autoencoder: dict[str, Any]
    unet: dict[str, Any]

    def latent(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The grid of the latent of a volume."""
        x, y, z = (n // 2 ** (len(self.autoencoder["channels"]) - 1) for n in shape)
        return x, y, z


# brain_image_synthesis_latent_diffusion of MONAI's model zoo (Pinaya et al. 2022, arXiv:2209.07162).
FULL = Sizes(
    volume=(160, 224, 160),
    half=(80, 112, 80),
    autoencoder={
        "channels": (64, 128, 128, 128),
        "num_res_blocks": (2, 2, 2, 2),
        "latent_channels": 3,
        "norm_num_groups": 32,
    },
    unet={
        "in_channels": 7,
        "out_channels": 3,
        "channels": (256, 512, 768),
        "attention_levels": (False, True, True),
        "num_head_channels": (0, 512, 768),
        "num_res_blocks": 2,
        "norm_num_groups": 32,
        "cross_attention_dim": 4,
    },
)
SMALL = Sizes(
    volume=(32, 32, 32),
    half=(16, 16, 16),
    autoencoder={
        "channels": (16, 32, 32, 32),
        "num_res_blocks": (1, 1, 1, 1),
        "latent_channels": 3,
        "norm_num_groups": 8,
    },
    unet={
        "in_channels": 7,
        "out_channels": 3,
        "channels": (32, 64, 64),
        "attention_levels": (False, True, True),
        "num_head_channels": (0, 64, 64),
        "num_res_blocks": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 4,
    },
)
SIZES = {"full": FULL, "small": SMALL}
