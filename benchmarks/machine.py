"""The machine and the software, as far as they bear on the figures."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import vol3d
from vol3d.nn.cpu_features import cpu_flags, cpu_info
from vol3d.nn.precision import cap, resolve

FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_tile", "asimd", "bf16")
CLASSES = {
    "amx": ("amx_bf16", ("AMX",)),
    "avx512-bf16": ("avx512_bf16", ("AMX", "BF16", "FP16")),
    "avx512": ("avx512f", ("AVX512",)),
    "avx2": ("avx2", ("AVX512", "AVX2")),
}
"""Classes of CPU, the fastest first: the flag that one has, and what a cap that allows it says."""
CAPS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables that keep oneDNN and torch from what the CPU can do."""


def describe(device: torch.device) -> dict[str, Any]:
    """What a reader needs to know to compare figures."""
    flags = cpu_flags()
    found = {
        "class": class_of(device, flags, cap()),
        "precision": precisions(device),
        "cpu": cpu_info().get("model name", platform.processor() or platform.machine()),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "flags": [f for f in FLAGS if f in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "monai")},
        "vol3d": vol3d.__version__,
        "commit": commit(),
        "capped": {k: os.environ[k] for k in CAPS if k in os.environ},
        "malloc": {k: v for k, v in os.environ.items() if k.startswith("MALLOC_")},
    }
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": gpu.name,
            "gpu_memory_gib": round(gpu.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def class_of(device: torch.device, flags: set[str], cap: str) -> str:
    """What a machine is called among those whose figures are alike.

    Args:
        device: what computes.
        flags: of the CPU.
        cap: what the environment allows oneDNN; empty is all.
    """
    if device.type != "cpu":
        return f"gpu-{resolve('auto', device)}"
    for name, (flag, allowing) in CLASSES.items():
        if flag in flags and (not cap or any(word in cap for word in allowing)):
            return f"cpu-{name}"
    return "cpu"


def precisions(device: torch.device) -> dict[str, str]:
    """In what each contestant computes."""
    is_low = resolve("auto", device) == "bf16"
    return {
        "shipped": "float32, convolutions in TF32" if device.type == "cuda" else "float32",
        "tuned": "bf16, channels-last" if is_low else "float32, channels-last",
        "vol3d": f"auto: {'bf16' if is_low else 'float32'}",
    }


def commit() -> str | None:
    """The commit of this checkout, with a + if it was changed since; None outside of git."""

    def git(*words: str) -> str:
        at = Path(__file__).parent
        done = subprocess.run(["git", *words], cwd=at, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
