"""The vector port: covariates steer every block through adaptive group norm."""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from vol3d.diffusion.condition import Condition, Ports
from vol3d.diffusion.conditioning import Grid3
from vol3d.diffusion.covariate_conditioning import CovariateConditioning, CovariateModule


class Vector(CovariateConditioning):
    """One vector for the whole image (Dhariwal and Nichol 2021, arXiv:2105.05233, section 3.1)."""

    kind: Literal["vector"] = "vector"

    dim: PositiveInt | None = 128
    """Length of the vector; null passes the numbers as they are."""

    def ports(self, widths: list[int]) -> Ports:
        """A vector of `dim`, or of all numbers."""
        return Ports(vector=self.dim or sum(widths))

    def build(self, widths: list[int]) -> CovariateModule:
        """Two layers over all rows at once, so that covariates may act together; or none."""
        return VectorModule(sum(widths), self.dim)


class VectorModule(CovariateModule):
    """All rows -> one vector [B, dim]."""

    def __init__(self, width: int, dim: int | None) -> None:
        super().__init__()
        self.layers = (
            nn.Sequential(nn.Linear(width, dim), nn.SiLU(), nn.Linear(dim, dim))
            if dim
            else nn.Identity()
        )

    def of_rows(self, rows: list[Tensor], shape: Grid3) -> Condition:
        """[B, width] each -> vector [B, dim]."""
        return Condition(vector=self.layers(torch.cat(rows, dim=1)))
