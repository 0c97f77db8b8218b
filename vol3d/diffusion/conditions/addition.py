"""The addition port: covariates as maps of where they matter, added to the first features."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as nnf
from einops import rearrange
from pydantic import PositiveInt
from torch import Tensor, nn

from vol3d.diffusion.condition import Condition, Ports
from vol3d.diffusion.conditioning import Grid3
from vol3d.diffusion.covariate_conditioning import CovariateConditioning, CovariateModule


class Addition(CovariateConditioning):
    """Each number weighs learnt, smooth maps of the brain.

    That is the linear model of voxel-based morphometry (Ashburner and Friston 2000) as a condition.
    """

    wants_whole: ClassVar = True
    kind: Literal["addition"] = "addition"

    dim: PositiveInt = 16
    """Maps that each number weighs."""
    grid: PositiveInt = 5
    """Nodes of a map along each axis; between them it is interpolated."""

    def ports(self, widths: list[int]) -> Ports:
        """`dim` maps."""
        return Ports(addition=self.dim)

    def build(self, widths: list[int]) -> CovariateModule:
        """The maps on their nodes."""
        return AdditionModule(sum(widths), self.dim, self.grid)


class AdditionModule(CovariateModule):
    """Numbers -> their weighted sum of maps."""

    def __init__(self, width: int, dim: int, grid: int) -> None:
        super().__init__()
        self.dim, self.grid = dim, grid
        self.maps = nn.Linear(width, dim * grid**3)

    def of_rows(self, rows: list[Tensor], shape: Grid3) -> Condition:
        """[B, width] each -> addition [B, dim, X, Y, Z]."""
        nodes = self.maps(torch.cat(rows, dim=1))
        g = self.grid
        nodes = rearrange(nodes, "b (c x y z) -> b c x y z", c=self.dim, x=g, y=g, z=g)
        maps = nnf.interpolate(nodes, size=shape, mode="trilinear", align_corners=True)
        return Condition(addition=maps)
