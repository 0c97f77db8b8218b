"""What guides the denoiser, through the four ports that a network has."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """Any subset of the ports; a port that is not used is None.

    Attributes:
        vector: [B, E], steers every block (adaptive group norm).
        tokens: [B, T, E], attended to (cross-attention).
        channels: [B, K, X, Y, Z], beside the noisy image (concatenation).
        addition: [B, K, X, Y, Z], added to the first features (spatial addition).
    """

    vector: Tensor | None = None
    tokens: Tensor | None = None
    channels: Tensor | None = None
    addition: Tensor | None = None

    def ports(self) -> dict[str, Tensor | None]:
        """By name, as a network takes them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Ports:
    """How wide each port of a network is; 0 is closed."""

    vector: int = 0
    tokens: int = 0
    channels: int = 0
    addition: int = 0


def join(parts: Iterable[Condition]) -> Condition:
    """Several conditions as one: tokens follow each other, all else lies side by side."""
    parts = list(parts)

    def together(name: str) -> Tensor | None:
        given = [t for t in (getattr(p, name) for p in parts) if t is not None]
        return torch.cat(given, dim=1) if given else None

    return Condition(**{f.name: together(f.name) for f in fields(Condition)})


def join_widths(parts: Iterable[Ports]) -> Ports:
    """The widths of the joined ports; tokens of different lengths are a ValueError."""
    widths = [asdict(p) for p in parts]
    lengths = {w["tokens"] for w in widths if w["tokens"]}
    if len(lengths) > 1:
        raise ValueError(f"tokens are of one length, got {sorted(lengths)}; give all the same dim")
    total = {name: sum(w[name] for w in widths) for name in ("vector", "channels", "addition")}
    return Ports(tokens=max(lengths, default=0), **total)
