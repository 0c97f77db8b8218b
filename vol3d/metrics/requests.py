"""What the closed loop asks for: volumes spread evenly, and no column that tells of another."""

import numpy as np

from vol3d.data.covariates import Category, Covariates, Number, Row
from vol3d.data.rng import numpy_rng

PERCENTILES = (5, 95)


def training_range(rows: list[Row], column: Number) -> tuple[float, float]:
    """The 5th and 95th percentile of a covariate over the training scans that have it.

    Where none has it, the range that the model itself saw.
    """
    values = [float(row[column.name]) for row in rows if row.get(column.name) is not None]
    if not values:
        return column.low, column.high
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)


def request_table(
    schema: Covariates, rows: list[Row], measured: list[str], n: int, *, seed: int = 0
) -> list[Row]:
    """Covariates for n samples with the seeds 0 to n - 1.

    A covariate that can be measured in the samples takes n evenly spaced values over its 5 - 95 %
    range of training; other numbers are drawn uniformly from theirs; levels alternate. Each
    column is put in a random order of its own, so that no column tells anything about another.
    """
    columns: dict[str, list] = {"seed": list(range(n))}
    for column in schema.columns:
        rng = numpy_rng("requests", seed, column.name)
        if isinstance(column, Category):
            levels = list(column.levels)
            values = [levels[i % len(levels)] for i in range(n)]
        else:
            low, high = training_range(rows, column)
            even = column.name in measured
            values = np.linspace(low, high, n) if even else rng.uniform(low, high, n)
            values = [round(float(v), 3) for v in values]
        columns[column.name] = [values[i] for i in rng.permutation(n)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
