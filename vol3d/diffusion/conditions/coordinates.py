"""Where each voxel lies, as channels: a network that sees a patch knows which one."""

from typing import ClassVar, Literal

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

    def connect(self, known: Known) -> tuple[Ports, "CoordinateModule"]:
        """Three channels; never hidden."""
        return Ports(channels=3), CoordinateModule()


class CoordinateModule(ConditioningModule):
    """The coordinates as they are."""

    def forward(self, given: Given, shape: Grid3) -> Condition:
        """[B, 3, X, Y, Z] -> channels."""
        return Condition(channels=given[COORDINATES])
