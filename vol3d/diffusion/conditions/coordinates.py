"""Where each voxel lies, as channels: a network that sees a patch knows which one."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field

from vol3d.diffusion.condition import Condition, Ports
from vol3d.diffusion.conditioning import (
    COORDINATES,
    Conditioning,
    ConditioningModule,
    Given,
    Grid3,
    Known,
)


class Coordinates(Conditioning):
    """Three channels from -1 to 1 along X, Y, Z of the whole grid (Bieder et al., MIDL 2023)."""

    kind: Literal["coordinates"] = "coordinates"
    wants_coordinates: ClassVar[bool] = True

    octaves: int = Field(default=0, ge=0, le=4)
    """Waves beside them: sine and cosine of pi 2^k c for each coordinate c and k below this (Tancik et
    al. 2020, arXiv:2006.10739). More than 4 would let the network learn places by heart."""

    def connect(self, known: Known) -> tuple[Ports, "CoordinateModule"]:
        """Three channels, and six an octave; never hidden."""
        return Ports(channels=3 + 6 * self.octaves), CoordinateModule(self.octaves)


class CoordinateModule(ConditioningModule):
    """The coordinates, and waves of them."""

    def __init__(self, octaves: int) -> None:
        super().__init__()
        self.octaves = octaves

    def forward(self, given: Given, shape: Grid3) -> Condition:
        """[B, 3, X, Y, Z] -> channels [B, 3 + 6 octaves, X, Y, Z]: as they are, then octave by octave."""
        c = given[COORDINATES]
        angles = [math.pi * 2**k * c for k in range(self.octaves)]
        waves = [wave for a in angles for wave in (a.sin(), a.cos())]
        return Condition(channels=torch.cat([c, *waves], 1))
