"""What DeepSpeed says of its operations, as JSON. A program of its own: importing DeepSpeed chatters.

Nothing is compiled: where DeepSpeed would compile a test program to find a library, it is stopped.
"""

import importlib.util
import json
import os
import shutil
from pathlib import Path


class WouldCompileError(Exception):
    """DeepSpeed asked for a test program."""


def refuse(*args: object, **kwargs: object) -> None:
    """In the place of DeepSpeed's compiler call."""
    raise WouldCompileError


def main() -> None:
    """Write the findings to stdout, and whatever DeepSpeed says to stderr."""
    findings = os.dup(1)
    os.dup2(2, 1)

    from deepspeed.accelerator import get_accelerator
    from deepspeed.git_version_info import installed_ops
    from deepspeed.ops.op_builder import builder
    from deepspeed.ops.op_builder.all_ops import ALL_OPS
    from torch.utils.cpp_extension import CUDA_HOME, get_default_build_root

    builder.OpBuilder.has_function = refuse
    names = {"compatible": [], "not compatible": [], "undecided": []}
    for name, op in ALL_OPS.items():
        if name != "deepspeed_not_implemented":
            names[answer(op)].append(name)
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    built = [n for n in ALL_OPS if installed_ops.get(n) or any(root.glob(f"**/{n}.so"))]
    ninja = importlib.util.find_spec("ninja") or shutil.which("ninja")
    tools = {"ninja": ninja, "C++ compiler": shutil.which(os.environ.get("CXX", "c++"))}
    if get_accelerator().device_name() == "cuda":
        tools["CUDA toolkit"] = CUDA_HOME
    if names["undecided"]:
        names["undecided"].append("because only a test compile would tell")
    told = {
        "accelerator": get_accelerator().device_name(),
        "ops built": ", ".join(built) or "none; each is compiled when it is first used",
        **{f"ops {said}": ", ".join(ops) for said, ops in names.items() if ops},
        "to compile": ", ".join(f"{n}: {'yes' if there else 'no'}" for n, there in tools.items()),
    }
    os.write(findings, json.dumps(told).encode())


def answer(op: object) -> str:
    """Whether an operation could be compiled here."""
    try:
        return "compatible" if op.is_compatible(verbose=False) else "not compatible"
    except WouldCompileError:
        return "undecided"
    except Exception:  # a probe that fails is DeepSpeed's own way of saying no
        return "not compatible"


if __name__ == "__main__":
    main()
