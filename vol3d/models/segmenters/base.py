"""What all segmenter networks share: how they are built, and the dropout that makes members of them."""

from abc import ABC, abstractmethod
from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.data.rng import torch_rng


class SegmenterNetwork(Config, ABC):
    """A network that gives each voxel a label; the menu is `vol3d.trained.segmenter_networks`."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which a channel is left out after each block of the way up; also when asked for
    members of an ensemble (Monte Carlo dropout: Gal and Ghahramani 2016, arXiv:1506.02142)."""

    @abstractmethod
    def build(self, in_channels: int, num_labels: int) -> nn.Module:
        """The network: [B, in_channels, X, Y, Z] -> logits [B, num_labels, X, Y, Z], of any shape.

        Its `forward(x, seeds)` takes the seeds of the images' dropout as well, [B]; None: no dropout.
        """

    def kept(self) -> Self:
        """The settings as a bundle keeps them, which build the network without any other file."""
        return self

    @property
    def knows_place(self) -> bool:
        """It takes what it sees for the whole volume, and must not see patches."""
        return False


def rngs_of(seeds: Tensor | None) -> list[torch.Generator]:
    """A generator for the dropout of each image; none without seeds."""
    return [] if seeds is None else [torch_rng("dropout", seed) for seed in seeds.tolist()]


def dropped(h: Tensor, p: float, rngs: list[torch.Generator]) -> Tensor:
    """Features without each channel with probability p, as each image's generator draws; all if none."""
    if not rngs:
        return h
    kept = torch.stack([torch.rand(h.shape[1], generator=rng) for rng in rngs]) >= p  # [B, C]
    return h * (kept.to(h) / (1 - p))[:, :, None, None, None]
