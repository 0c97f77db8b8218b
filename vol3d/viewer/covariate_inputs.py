"""How covariates are asked for: numbers by sliders with the range of training, categories by choices."""

from dataclasses import dataclass

from vol3d.data.covariate_types import Number, limits_of
from vol3d.data.covariates import Covariates

BEYOND = 0.25
"""How far sliders go beyond what was seen in training, in parts of its range."""


@dataclass(frozen=True)
class Scale:
    """The slider of a number.

    Attributes:
        name: of the covariate.
        unit: years, ml.
        low: the least that was seen in training.
        high: the most.
        least: where the slider begins.
        most: where it ends.
        usual: the mean in training.
    """

    name: str
    unit: str
    low: float
    high: float
    least: float
    most: float
    usual: float


@dataclass(frozen=True)
class Levels:
    """The levels of a category."""

    name: str
    levels: tuple[str, ...]


def inputs_of(schema: Covariates) -> list[Scale | Levels]:
    """What can be asked for, in the order of the model."""
    return [
        scale_of(c) if isinstance(c, Number) else Levels(c.name, tuple(c.levels))
        for c in schema.columns
    ]


def scale_of(number: Number) -> Scale:
    """A slider somewhat beyond the training range, but not to what cannot be."""
    more = BEYOND * (number.high - number.low)
    least, most, _ = limits_of(number.name)
    return Scale(
        number.name,
        number.unit,
        number.low,
        number.high,
        max(number.low - more, min(least, number.low)),
        min(number.high + more, max(most, number.high)),
        number.mean,
    )
