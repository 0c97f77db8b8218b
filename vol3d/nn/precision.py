"""bf16 where it is fast, float32 where it matters."""

from typing import Literal

import torch
from torch import nn

Precision = Literal["bf16", "fp32"]
"""bf16: networks run under autocast; statistics, sums over voxels, losses and an autoencoder's last layer
stay float32."""


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which networks are called."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def lowered(net: nn.Module) -> nn.Module:
    """The network with convolutions and linear layers in bf16, for calls under bf16 autocast.

    Autocast would round these weights anew at every call; norms stay float32.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv3d | nn.ConvTranspose3d):
            module.to(torch.bfloat16)
    return net
