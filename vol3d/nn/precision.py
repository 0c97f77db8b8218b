"""bf16 where it is fast, float32 where it matters."""

import torch
from torch import nn


def lowered(net: nn.Module) -> nn.Module:
    """The network with convolutions and linear layers in bf16, for calls under bf16 autocast.

    Autocast would round these weights to the same numbers anew at every call; norms stay float32.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv3d | nn.ConvTranspose3d):
            module.to(torch.bfloat16)
    return net
