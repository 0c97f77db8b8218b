"""bf16 where the hardware multiplies it, float32 elsewhere and wherever it matters."""

import os
from typing import Literal

import torch
from torch import nn

from vol3d.nn.cpu_features import cpu_flags

Precision = Literal["auto", "bf16", "fp32"]
"""auto: bf16 where the device multiplies bf16 in hardware, float32 elsewhere (see `resolve`).
bf16: networks run under autocast; statistics, sums over voxels, losses and an autoencoder's last layer
stay float32.
fp32: float32 throughout."""
UNITS = ("amx_bf16",)
"""What a CPU that multiplies bf16 calls it.

avx512_bf16 is none: its products take as long as float32 with Winograd's convolutions (`nn/winograd.py`),
and oneDNN's gradients there came out wrong (torch 2.13: MONAI's infinite, a layer of ours off by half).
"""
WITHOUT = {
    "SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI",
    "AVX512_CORE_BF16", "AVX512_CORE_FP16",
}  # fmt: skip
"""Values of ONEDNN_MAX_CPU_ISA that keep oneDNN from those units."""


def resolve(precision: Precision, device: torch.device) -> Precision:
    """What a precision is on a device: bf16 or fp32.

    Where nothing multiplies bf16 it is emulated, several times slower than float32. Such GPUs have fp16,
    which ends at 65504 and needs its losses scaled: an update that overflows would be dropped, and three
    in a row stop the run. A slower night is better than one that stops, so auto is float32 there too.
    """
    if precision != "auto":
        return precision
    return "bf16" if units_of(device) else "fp32"


def why(device: torch.device) -> str:
    """What auto is on a device, and the reason, in a line."""
    if units := units_of(device):
        return f"bf16, which this {kind(device)} multiplies in hardware ({units})"
    if device.type == "cpu" and set(UNITS) & cpu_flags():
        return f"fp32, because ONEDNN_MAX_CPU_ISA={cap()} keeps oneDNN from this CPU's bf16 units"
    return f"fp32, because this {kind(device)} has no bf16 units"


def units_of(device: torch.device) -> str:
    """What multiplies bf16 on a device; empty if nothing does."""
    if device.type == "cpu":
        return "" if cap() in WITHOUT else ", ".join(u for u in UNITS if u in cpu_flags())
    if device.type != "cuda":
        return ""
    if torch.version.hip:
        return "ROCm"
    major, minor = torch.cuda.get_device_capability(device)
    return f"compute capability {major}.{minor}" if major >= 8 else ""  # 8.0 is Ampere


def kind(device: torch.device) -> str:
    """A device's type as people write it."""
    return {"cpu": "CPU", "cuda": "GPU"}.get(device.type, device.type)


def cap() -> str:
    """The instructions that the environment allows oneDNN; empty is all."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which networks are called."""
    is_low = resolve(precision, device) == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=is_low)


def lowered(net: nn.Module) -> nn.Module:
    """The network with convolutions and linear layers in bf16, for calls under bf16 autocast.

    Autocast would round these weights anew at every call; norms stay float32.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv3d | nn.ConvTranspose3d):
            module.to(torch.bfloat16)
    return net
