"""Weights on disk, of torch or safetensors, as plain tensors by name; nothing in a file is executed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vol3d.errors import ConfigError, DataError
from vol3d.io.reading import first_line

ENDINGS = (".pt", ".pth", ".ckpt", ".safetensors")
"""Of the files that are read."""


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        state: tensors by the names of whoever wrote them.
        scale_factor: of the latent, where the file says it.
    """

    path: Path
    state: dict[str, Tensor]
    scale_factor: float | None = None


def read_weights(path: Path, key: str | None = None) -> Weights:
    """The state dict in a file, bare or within a checkpoint, without a common prefix.

    Args:
        path: a file of torch or safetensors.
        key: which entry of a checkpoint, where several are state dicts.

    Raises:
        ConfigError: no such file, another kind of file, or it is not clear which entry.
        DataError: the file cannot be read, or holds no weights.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    if path.suffix not in ENDINGS:
        raise ConfigError(f"{path}: a file of weights ends in {', '.join(ENDINGS)}")
    content = read(path)
    state = within(content, path, key)
    scale = content.get("scale_factor") if isinstance(content, dict) else None
    state = {name: value.float() for name, value in without_prefix(state).items()}
    return Weights(path, state, None if scale is None else float(scale))


def read(path: Path) -> Any:
    """What is in the file; torch files are read as data, never as code."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({first_line(error)})") from None
    except Exception as error:  # torch's reader raises several unrelated kinds
        raise DataError(
            f"{path}: cannot be read as weights alone ({first_line(error)}); where it was made, save "
            f"its state dict: torch.save(net.state_dict(), FILE)"
        ) from None


def is_state(value: Any) -> bool:
    """Whether it is tensors by name; a checkpoint's counters are no tensors."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
        and any(v.ndim > 1 for v in value.values())
    )


def within(content: Any, path: Path, key: str | None) -> dict[str, Tensor]:
    """The one state dict of a checkpoint, or the one that is named."""
    if key is None and is_state(content):
        return content
    found = {k: v for k, v in content.items() if is_state(v)} if isinstance(content, dict) else {}
    names = ", ".join(found) or "none"
    if key is not None:
        if key not in found:
            raise ConfigError(f"{path}: has no weights '{key}'; it has: {names}")
        return found[key]
    if not found:
        raise DataError(f"{path}: holds no weights by name; a state dict is due")
    if len(found) > 1:
        raise ConfigError(f"{path}: holds several networks; choose one with key=NAME of: {names}")
    return next(iter(found.values()))


def without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what all of them begin with: `module.`, `_orig_mod.`, a trainer's `model.`."""
    while len(heads := {name.split(".")[0] for name in state}) == 1:
        (head,) = heads
        if not all("." in name for name in state):
            break
        state = {name[len(head) + 1 :]: value for name, value in state.items()}
    return state
