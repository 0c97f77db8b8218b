"""MONAI's own networks in the shapes that were published, narrow or true to size, with random weights."""

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from torch import Tensor, nn

BRAINLDM_KL = {"channels": (64, 128, 128, 128), "latent_channels": 3}
BRAINLDM_UNET = {
    "in_channels": 7,
    "out_channels": 3,
    "channels": (256, 512, 768),
    "attention_levels": (False, True, True),
    "num_head_channels": (0, 512, 768),
    "num_res_blocks": 2,
    "resblock_updown": True,
    "with_conditioning": True,
    "cross_attention_dim": 4,
    "upcast_attention": True,
}
"""Of brain_image_synthesis_latent_diffusion_model, version 1.0.0, in MONAI's model zoo."""
MAISI_KL = {"num_channels": (64, 128, 256), "num_res_blocks": (2, 2, 2), "latent_channels": 4}
"""Of maisi_ct_generative, version 0.4.5, in MONAI's model zoo."""


def autoencoder(**changes) -> AutoencoderKL:
    settings = {"channels": (8, 16), "num_res_blocks": 2, "norm_num_groups": 4, **changes}
    levels = len(settings["channels"])
    settings.setdefault("attention_levels", (False,) * levels)
    settings.setdefault("latent_channels", 4)
    for end in ("encoder", "decoder"):
        settings.setdefault(f"with_{end}_nonlocal_attn", False)
    return AutoencoderKL(spatial_dims=3, in_channels=1, out_channels=1, **settings)


def maisi(**changes) -> AutoencoderKlMaisi:
    settings = {"num_channels": (8, 16, 24), "num_res_blocks": (1, 2, 1), "norm_num_groups": 4}
    settings |= {"latent_channels": 4, **changes}
    settings.setdefault("attention_levels", (False,) * len(settings["num_channels"]))
    plain = {"num_splits": 1, "save_mem": False, "norm_float16": False}
    return AutoencoderKlMaisi(spatial_dims=3, in_channels=1, out_channels=1, **plain, **settings)


def unet(**changes) -> DiffusionModelUNet:
    settings = {"in_channels": 3, "out_channels": 3, "channels": (8, 16), "num_res_blocks": 1}
    settings |= {"attention_levels": (False, True), "norm_num_groups": 4, **changes}
    return DiffusionModelUNet(spatial_dims=3, **settings)


def narrow_brainldm() -> tuple[AutoencoderKL, DiffusionModelUNet]:
    """As published but for the channels."""
    kl = autoencoder(**BRAINLDM_KL | {"channels": (8, 16, 16, 16)})
    narrow = {"channels": (8, 16, 24), "num_head_channels": (0, 16, 24)}
    return kl, unet(**BRAINLDM_UNET | narrow)


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights everywhere, also where both begin at zero or one."""
    rng = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        scale = 0.3 if p.ndim == 1 else p[0].numel() ** -0.5
        p.data = scale * torch.randn(p.shape, generator=rng) + (p.ndim == 1) * 0.5
    return net.eval()


def apart(x: Tensor, y: Tensor) -> float:
    """Relative distance."""
    return ((x - y).norm() / y.norm()).item()


@torch.inference_mode()
def assert_same_autoencoder(theirs: nn.Module, ours: nn.Module) -> None:
    """Encode and decode agree in float32."""
    x = torch.rand(2, 1, 16, 24, 16, generator=torch.Generator().manual_seed(1))
    mean, sigma = theirs.encode(x)
    posterior = ours.encode(x)
    assert apart(posterior.mean, mean) < 1e-5
    assert apart((posterior.logvar / 2).exp(), sigma) < 1e-5
    assert apart(ours.decode(mean), theirs.decode(mean)) < 1e-5


def aged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as MONAI GenerativeModels named it, before it went into MONAI's core."""
    old = {}
    for name, value in state.items():
        is_transformer = "transformer_blocks" in name
        name = name.replace(".postconv.", ".conv.")
        if is_transformer:
            name = name.replace(".out_proj.", ".to_out.0.")
        else:
            name = name.replace(".attn.out_proj.", ".proj_attn.").replace(".attn.to_", ".to_")
        old[name] = value
    return old
