"""What is installed, and what steers it."""

import json
import platform
import re
import sys
from pathlib import Path

from vol3d import __version__
from vol3d.diagnosis.report_lines import FAILED, Lines, ask, version_of

# torch is imported within the checks here and beside: where it is broken, one of them says so.
EXTRAS = {"deepspeed": "deepspeed", "xformers": "xformers", "napari": "viewer"}
"""Packages that may be missing, by what installs them."""
STEER = """
CUDA_VISIBLE_ NCCL_ GLOO_ UCX_ OMP_ KMP_ MKL_ TORCH_ PYTORCH_ DS_ACCELERATOR DS_BUILD_ DS_SKIP_
"""
"""How the names of variables begin that change what the libraries below us do."""
PLACES = ("COMM_ID", "ADDR", "HOST")
"""How those end that name a host."""


def versions() -> Lines:
    """Of ourselves, Python, and the packages that we stand on."""
    yield "vol3d", __version__
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    for name in ("torch", "monai", "nibabel", "SimpleITK", "numpy", "numba"):
        yield name, version_of(name) or f"{FAILED}not installed; pip install vol3d"
    for name, extra in EXTRAS.items():
        yield name, version_of(name) or without(extra)


def without(extra: str) -> str:
    """What to do where a package is missing."""
    return f'not installed; if you need it: pip install "vol3d[{extra}]"'


def commit() -> Lines:
    """Of the clone that vol3d runs from, if it does."""
    clone = Path(__file__).parents[2]
    if (clone / ".git").exists():
        yield "commit", ask("git", "-C", str(clone), "describe", "--always", "--dirty") or "no git"


def system() -> Lines:
    """The kernel, the container if there is one, and the distribution."""
    yield "kernel", platform.platform()
    kinds = {"apptainer": ".singularity.d", "docker": ".dockerenv", "podman": "run/.containerenv"}
    inside = [kind for kind, mark in kinds.items() if Path("/", mark).exists()]
    yield "container", ", ".join(inside) or "none that is known"
    yield "distribution", platform.freedesktop_os_release()["PRETTY_NAME"]


def torch_build() -> Lines:
    """What torch was built with."""
    import torch

    made_for = "ROCm " + torch.version.hip if torch.version.hip else torch.version.cuda
    yield "torch's CUDA", made_for or "none: a build for the CPU"
    yield "cuDNN", str(torch.backends.cudnn.version() or "none")
    has_nccl = torch.distributed.is_available() and torch.distributed.is_nccl_available()
    yield "NCCL", ".".join(map(str, torch.cuda.nccl.version())) if has_nccl else "none"


def environment() -> Lines:
    """Variables that steer the libraries below us, as they were before those set some themselves."""
    for entry in sorted(Path("/proc/self/environ").read_text().split("\0")):
        name, _, value = entry.partition("=")
        if name.startswith(tuple(STEER.split())):
            hidden = "/" in value or name.endswith(PLACES) or re.search(r"(\d+\.){3}\d|::", value)
            yield name, "is set (a path or an address)" if hidden else value


def deepspeed() -> Lines:
    """Its accelerator and its operations, of which none is compiled."""
    if version_of("deepspeed") is None:
        yield "deepspeed", without("deepspeed")
        return
    program = Path(__file__).with_name("deepspeed_ops.py")
    yield from json.loads(ask(sys.executable, "-P", str(program), seconds=120)).items()
