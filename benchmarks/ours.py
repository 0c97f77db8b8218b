"""vol3d's networks: how they are built, cast and set in each case. The one file to change for that.

inference  decoding, encoding, denoising
fast       training with all activations kept
lean       training in the least memory
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.contestant import Contestant, Given, moved
from benchmarks.sizes import Sizes
from benchmarks.weights import fill
from vol3d.models.autoencoders.kl import AutoencoderKL, KLNet
from vol3d.models.denoisers.unet import UNet, UNetNet
from vol3d.nn.cuda_graphs import Replayed
from vol3d.nn.precision import autocast, lowered, resolve

AUTOENCODER: dict[str, dict[str, Any]] = {
    "inference": {},
    "fast": {"checkpointing": False},
    "lean": {"checkpointing": True},
}
"""What `task.model` says beside its size, in each setting."""
PRECISION = "auto"
"""Of `vol3d train`, and of the sampler: its default, which the device decides."""
SAMPLER = {"precision": PRECISION, "micro_batch": 1}
"""What `vol3d generate` is told of the sampler beside its steps and its guidance."""


def autoencoder(sizes: Sizes, setting: str) -> AutoencoderKL:
    """The settings of the autoencoder."""
    size = sizes.autoencoder
    return AutoencoderKL(
        channels=size["channels"],
        num_res_blocks=size["num_res_blocks"],
        z_channels=size["latent_channels"],
        norm_groups=size["norm_num_groups"],
        patch=1,
        **AUTOENCODER[setting],
    )


def unet(sizes: Sizes) -> UNet:
    """The settings of the U-Net."""
    size = sizes.unet
    return UNet(
        channels=size["channels"],
        attention_levels=size["attention_levels"],
        head_channels=size["num_head_channels"],
        num_res_blocks=size["num_res_blocks"],
        norm_groups=size["norm_num_groups"],
        modulation="add",
        resblock_updown=True,
    )


def build_autoencoder(sizes: Sizes, setting: str) -> nn.Module:
    """The autoencoder, without memory for its weights."""
    with torch.device("meta"):
        return autoencoder(sizes, setting).build()


def build_unet(sizes: Sizes) -> nn.Module:
    """The U-Net, without memory for its weights."""
    size = sizes.unet
    with torch.device("meta"):
        return unet(sizes).build(
            size["in_channels"], size["out_channels"], token_dim=size["cross_attention_dim"]
        )


def entered(
    net: str, does: str, setting: str, given: Given, sizes: Sizes, device: torch.device
) -> Contestant:
    """A network with its weights, cast and ready to be called as vol3d's own verbs call it."""
    built = build_unet(sizes) if net == "unet" else build_autoencoder(sizes, setting)
    precision = resolve(PRECISION, device)
    if net == "unet" and precision == "bf16":  # as TrainedGenerator has it
        lowered(built)
    built = built.to_empty(device=device).to(memory_format=torch.channels_last_3d)
    fill(built)
    called = built.train(does == "train")
    if does in ("decode", "denoise"):  # as vol3d/trained has them
        called = Replayed(built.decode if does == "decode" else built)
    return Contestant(
        called,
        FORWARD[does],
        moved(given, device, torch.float32, channels_last=True),
        trains=does == "train",
        calling=partial(autocast, device, precision),
    )


def reconstruct(net: KLNet, given: Given) -> Tensor:
    """A training pass."""
    return net(given["x"], given["noise"]).x


def denoise(net: UNetNet, given: Given) -> Tensor:
    """One call of the U-Net."""
    return net(given["x"], given["t"], tokens=given["tokens"])


FORWARD = {
    "decode": lambda net, given: net(given["z"]),
    "encode": lambda net, given: net.encode(given["x"]).mean,
    "train": reconstruct,
    "denoise": denoise,
}
