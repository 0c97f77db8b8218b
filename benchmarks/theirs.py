"""MONAI's networks: as they are shipped, and tuned by hand as far as their own code lets one.

shipped  float32, the layout of torch, all of MONAI's defaults
tuned    channels-last, and the U-Net with its own switch for fused attention; where the device multiplies
         bf16 in hardware, the autoencoder's weights in bf16 and the U-Net under bf16 autocast (its time
         embedding takes no bf16 weights), elsewhere float32
"""

from contextlib import nullcontext
from functools import partial

import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import Tensor, nn

from benchmarks.contestant import Contestant, Given, moved
from benchmarks.sizes import Sizes
from benchmarks.weights import fill_monai
from vol3d.models.monai.weight_names import renamed
from vol3d.nn.precision import resolve


def build(net: str, sizes: Sizes, *, fused_attention: bool = False) -> nn.Module:
    """MONAI's network, without memory for its weights."""
    with torch.device("meta"):
        if net == "unet":
            return DiffusionModelUNet(
                spatial_dims=3,
                resblock_updown=True,
                with_conditioning=True,
                use_flash_attention=fused_attention,
                **sizes.unet,
            )
        levels = len(sizes.autoencoder["channels"])
        return AutoencoderKL(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            attention_levels=(False,) * levels,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
            **sizes.autoencoder,
        )


def shipped(net: str, does: str, given: Given, sizes: Sizes, device: torch.device) -> Contestant:
    """As it comes."""
    built = build(net, sizes).to_empty(device=device)
    return entered(built, does, moved(given, device, torch.float32, channels_last=False))


def tuned(net: str, does: str, given: Given, sizes: Sizes, device: torch.device) -> Contestant:
    """As somebody who knows torch would set it up."""
    is_unet, is_low = net == "unet", resolve("auto", device) == "bf16"
    dtype = torch.bfloat16 if is_low and not is_unet else torch.float32
    built = build(net, sizes, fused_attention=is_unet).to(dtype).to_empty(device=device)
    built.to(memory_format=torch.channels_last_3d)
    contestant = entered(built, does, moved(given, device, dtype, channels_last=True))
    if is_unet and is_low:
        contestant.calling = partial(torch.autocast, device.type, torch.bfloat16)
    return contestant


def entered(net: nn.Module, does: str, given: Given) -> Contestant:
    """A network with its weights, ready to be called."""
    fill_monai(net)
    trains = does == "train"
    return Contestant(net.train(trains), FORWARD[does], given, trains, nullcontext, renamed)


def reconstruct(net: AutoencoderKL, given: Given) -> Tensor:
    """Through a draw from the posterior, whose noise is given."""
    mean, sigma = net.encode(given["x"])
    return net.decode(mean + sigma * given["noise"])


FORWARD = {
    "decode": lambda net, given: net.decode(given["z"]),
    "encode": lambda net, given: net.encode(given["x"])[0],
    "train": reconstruct,
    "denoise": lambda net, given: net(given["x"], given["t"], context=given["tokens"]),
}
