"""What guides the denoiser, through the three ports that a network has."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """Any subset of the three ports; a port that is not used is None."""

    vector: Tensor | None = None  # [B, E]
    tokens: Tensor | None = None  # [B, T, E]
    channels: Tensor | None = None  # [B, C2, X, Y, Z]
