"""What the ways of conditioning on covariates share: which covariates go that way."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from vol3d.config import Config
from vol3d.diffusion.condition import Condition, Ports

Grid3 = tuple[int, int, int]
"""Voxels of a latent along X, Y, Z."""


class CovariatePort(Config, ABC):
    """See `vol3d.diffusion.conditions`."""

    of: tuple[str, ...] | None = None
    """The covariates that go this way; all of them if not given."""
    mask: bool = True
    """Beside a covariate's values also pass 1 or 0, for known or not; false passes the values alone,
    and a model then cannot tell what is hidden from what is 0."""

    @abstractmethod
    def ports(self, widths: list[int]) -> Ports:
        """How wide each port of the network must be."""

    @abstractmethod
    def build(self, widths: list[int]) -> "CovariateModule":
        """The module for covariates whose encoded rows have these lengths."""


class CovariateModule(nn.Module, ABC):
    """Encoded covariates -> a condition."""

    @abstractmethod
    def forward(self, rows: list[Tensor], shape: Grid3) -> Condition:
        """The condition.

        Args:
            rows: of each covariate its values and, unless `mask` is false, 1 or 0 for known,
                [B, width].
            shape: of the latent.
        """
