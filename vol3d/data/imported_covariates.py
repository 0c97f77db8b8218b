"""Covariates of a model that was trained elsewhere, of which no more is known than their ranges."""

from itertools import product
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, NonNegativeFloat, model_validator

from vol3d.config import Config
from vol3d.data.covariates import Category, Cell, Covariates, Number

UNIFORM_SD = 12**-0.5
"""Standard deviation of what is uniform from 0 to 1."""


class NumberRange(Config):
    """A quantity that the network was told from 0 at `low` to 1 at `high`."""

    kind: Literal["number"] = "number"
    low: float = 0.0
    """The value that the network knows as 0."""
    high: float = 1.0
    """The value that it knows as 1."""
    unit: str = ""
    """Of both."""
    guidance: NonNegativeFloat = 1.0
    """Default guidance scale; for models that were trained without conditions as well."""

    @model_validator(mode="after")
    def check_range(self) -> "NumberRange":
        """There is something between the ends."""
        if self.low >= self.high:
            raise ValueError(f"low={self.low:g} must be below high={self.high:g}")
        return self

    def column(self, name: str) -> Number:
        """As the schema has it; mean and spread are those of a uniform distribution."""
        return Number(
            name=name,
            unit=self.unit,
            low=self.low,
            high=self.high,
            mean=(self.low + self.high) / 2,
            std=(self.high - self.low) * UNIFORM_SD,
            missing=0,
            absent="draw",
            guidance=self.guidance,
            scaling="range",
        )


class CategoryRange(Config):
    """One of a few names."""

    kind: Literal["category"] = "category"
    levels: tuple[str, ...] = Field(min_length=2)
    """The names, in the network's order."""
    coding: Literal["index", "one_hot", "signs"] = "index"
    """index: the network was told the place in the list as a number from 0; one_hot: 1 at the level
    and 0 at the others, which is MONAI's class embedding; signs: 1 and -1."""
    guidance: NonNegativeFloat = 1.0
    """As for a number."""

    def column(self, name: str) -> Category:
        """As the schema has it; how many people had each level is not known."""
        return Category(
            name=name,
            levels=dict.fromkeys(self.levels, 0),
            missing=0,
            absent="draw",
            guidance=self.guidance,
            coding=self.coding,
        )


def with_kind(given: Any) -> Any:
    """What has levels is a category, unless it says otherwise."""
    if not isinstance(given, dict):
        return given
    return {"kind": "category" if "levels" in given else "number", **given}


Range = Annotated[
    NumberRange | CategoryRange, Field(discriminator="kind"), BeforeValidator(with_kind)
]


def schema_of(ranges: dict[str, NumberRange | CategoryRange]) -> Covariates:
    """The schema: what is not asked for is drawn from the middle of its range, each by itself.

    The ranges are in the order in which the network takes them.
    """
    columns = [r.column(name) for name, r in ranges.items()]
    kinds = [c for c in columns if isinstance(c, Category)]
    numbers = [c for c in columns if isinstance(c, Number)]
    cells = [
        Cell(
            levels=dict(zip([c.name for c in kinds], key, strict=True)),
            count=1,
            mean=[0.5] * len(numbers),
        )
        for key in product(*(c.levels for c in kinds))
    ]
    covariance = np.eye(len(numbers)) * UNIFORM_SD**2
    return Covariates(columns=columns, cells=cells, covariance=covariance.tolist())
