"""What all ways of conditioning share: what they take of a sample, and the port they open.

A sample gives named tensors: the encoded row of its covariates, images of the same visit, the place of
its voxels. A way takes some of these, and makes a `Condition` of them. What may be hidden carries a flag
for known: 1, or 0 where it is missing, hidden in training, or left out by guidance.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from vol3d.config import Config
from vol3d.data.covariates import Covariates
from vol3d.diffusion.condition import Condition, Ports

Grid3 = tuple[int, int, int]
"""Voxels of what is drawn along X, Y, Z."""
Given = Mapping[str, Tensor]
"""What a sample gives, by name: see `COVARIATES`, `COORDINATES`; the rest are images [B, K + 1, X, Y, Z],
whose last channel is the flag for known."""
COVARIATES = "covariates"
"""The encoded row of all covariates, [B, width] (see `Covariates.encode`)."""
COARSE, COARSE_NOISE = "coarse", "coarse_noise"
"""The whole volume in as many voxels as the patch has, clean, and its noise; [B, C, X, Y, Z]."""
COORDINATES = "coordinates"
"""Where each voxel lies, [B, 3, X, Y, Z], from -1 to 1 along the axes of the whole grid."""
RATER = "rater"
"""Whose label map is drawn, [B]: a place in `target.of`, or a seed, which goes round them."""
NUMBERS = "numbers"
"""Standard normal numbers of each sample's own generator, [B, N] (see `Conditioning.numbers`)."""
Penalty = Callable[[Tensor], Mapping[str, Tensor]]
"""The network's estimate of x0 [B, C, X, Y, Z] -> what a way adds to the loss of each image, [B], by
name, weighted."""


def no_penalty(D: Tensor) -> Mapping[str, Tensor]:
    """Nothing is added."""
    return {}


@dataclass(frozen=True)
class Known:
    """What a data set lets a way take.

    Attributes:
        channels: of what is drawn.
        images: of each image or label map beside it, by name.
        raters: whose label maps are drawn, how many; 0 where none are.
    """

    schema: Covariates
    channels: int
    images: Mapping[str, int] = field(default_factory=dict)
    raters: int = 0


class Conditioning(Config, ABC):
    """See `vol3d.diffusion.conditions`."""

    wants_coordinates: ClassVar[bool] = False
    wants_whole: ClassVar[bool] = False
    """What it tells is found in a whole volume, and a patch would tell otherwise."""

    def image(self) -> tuple[str, float] | None:
        """The image or label map of the visit that it takes, and its guidance scale; None if none."""
        return None

    @property
    def numbers(self) -> int:
        """How many standard normal numbers of a sample's own generator it takes."""
        return 0

    @abstractmethod
    def connect(self, known: Known) -> tuple[Ports, "ConditioningModule"]:
        """How wide it makes its port, and the module that feeds it.

        Raises:
            ConfigError: it is of a covariate that there is not.
        """


class ConditioningModule(nn.Module, ABC):
    """What a sample gives -> a condition."""

    @abstractmethod
    def forward(self, given: Given, shape: Grid3) -> Condition:
        """The condition, for what is drawn of this shape."""

    def learn(self, given: Given, x0: Tensor) -> tuple[Condition, Penalty]:
        """The condition in training, where x0 [B, C, X, Y, Z] is known, and what it adds to the loss."""
        return self(given, tuple(x0.shape[2:])), no_penalty
