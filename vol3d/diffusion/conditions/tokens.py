"""The token port: every voxel of the latent attends to the covariates."""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from vol3d.diffusion.condition import Condition, Ports
from vol3d.diffusion.conditioning import Grid3
from vol3d.diffusion.covariate_conditioning import CovariateConditioning, CovariateModule


class Tokens(CovariateConditioning):
    """A token a covariate, for cross-attention (Rombach et al. 2022, arXiv:2112.10752, eq. 3)."""

    kind: Literal["tokens"] = "tokens"

    dim: PositiveInt | None = 64
    """Length of a token; null makes a single token of all numbers as they are (BrainLDM, Pinaya et al.
    2022, arXiv:2209.07162)."""

    def ports(self, widths: list[int]) -> Ports:
        """Tokens of `dim`, or one of all numbers."""
        return Ports(tokens=self.dim or sum(widths))

    def build(self, widths: list[int]) -> CovariateModule:
        """Two layers for each covariate of its own, or nothing to learn."""
        return PlainTokenModule() if self.dim is None else TokenModule(widths, self.dim)


class TokenModule(CovariateModule):
    """Each row -> a token."""

    def __init__(self, widths: list[int], dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(w, dim), nn.SiLU(), nn.Linear(dim, dim)) for w in widths
        )

    def of_rows(self, rows: list[Tensor], shape: Grid3) -> Condition:
        """[B, width] each -> tokens [B, T, dim]."""
        made = [layers(row) for layers, row in zip(self.layers, rows, strict=True)]
        return Condition(tokens=torch.stack(made, dim=1))


class PlainTokenModule(CovariateModule):
    """All numbers -> one token."""

    def of_rows(self, rows: list[Tensor], shape: Grid3) -> Condition:
        """[B, width] each -> tokens [B, 1, sum of widths]."""
        return Condition(tokens=torch.cat(rows, dim=1)[:, None])
