"""What the ways of conditioning on covariates share: which covariates go that way."""

from abc import abstractmethod

from torch import Tensor

from vol3d.config import did_you_mean
from vol3d.data.covariates import Covariates
from vol3d.diffusion.condition import Condition, Ports
from vol3d.diffusion.conditioning import (
    COVARIATES,
    Conditioning,
    ConditioningModule,
    Given,
    Grid3,
    Known,
)
from vol3d.errors import ConfigError


class CovariateConditioning(Conditioning):
    """A way for covariates: numbers and categories."""

    of: tuple[str, ...] | None = None
    """The covariates that go this way; all of them if not given."""
    mask: bool = True
    """Beside a covariate's values also pass 1 or 0, for known or not; false passes the values alone,
    and a model then cannot tell what is hidden from what is 0."""

    def names(self, schema: Covariates) -> list[str]:
        """The covariates that go this way."""
        return list(schema.names if self.of is None else self.of)

    def connect(self, known: Known) -> tuple[Ports, "CovariateModule"]:
        """See `Conditioning.connect`."""
        schema, names = known.schema, self.names(known.schema)
        for name in names:
            if name not in schema.names:
                raise ConfigError(
                    f"of: unknown covariate '{name}'.{did_you_mean(name, schema.names)} "
                    f"Known: {', '.join(schema.names)}."
                )
        places = [schema.places(n) if self.mask else schema.places(n)[:-1] for n in names]
        widths = [len(place) for place in places]
        module = self.build(widths)
        module.places = places
        return self.ports(widths), module

    @abstractmethod
    def ports(self, widths: list[int]) -> Ports:
        """How wide each port of the network must be, for rows of these lengths."""

    @abstractmethod
    def build(self, widths: list[int]) -> "CovariateModule":
        """The module for covariates whose encoded rows have these lengths."""


class CovariateModule(ConditioningModule):
    """Encoded covariates -> a condition."""

    places: list[list[int]]

    def forward(self, given: Given, shape: Grid3) -> Condition:
        """See `ConditioningModule.forward`."""
        return self.of_rows([given[COVARIATES][:, place] for place in self.places], shape)

    @abstractmethod
    def of_rows(self, rows: list[Tensor], shape: Grid3) -> Condition:
        """The condition.

        Args:
            rows: of each covariate its values and, unless `mask` is false, 1 or 0 for known,
                [B, width].
            shape: of what is drawn.
        """
