"""Points as tables: columns x, y, z in mm, and whatever else is known of each point."""

import csv
import io
from pathlib import Path
from typing import Literal

import numpy as np

from vol3d.data.bids_writer import write_text
from vol3d.data.tables import parse_value, read_rows
from vol3d.errors import DataError
from vol3d.grid import LPS

Axes = Literal["RAS", "LPS"]
XYZ = ("x", "y", "z")
DECIMALS = 4


def is_table(path: Path) -> bool:
    """Whether a file's name is that of a table."""
    return path.suffix in (".tsv", ".csv")


def read_points(path: Path, axes: Axes = "RAS") -> tuple[np.ndarray, list[dict[str, str]]]:
    """Read points [n, 3] in mm, RAS+, and their rows as they are.

    Raises:
        DataError: no such file; a column x, y or z is missing, or a number in one.
    """
    rows = read_rows(path)
    if lacking := [name for name in XYZ if name not in rows[0]]:
        raise DataError(
            f"{path}: has no column {', '.join(lacking)}; it has {', '.join(rows[0])}, and points are "
            f"columns x, y, z in mm"
        )
    for number, row in enumerate(rows, start=2):
        for name in XYZ:
            if not isinstance(parse_value(row[name]), float):
                raise DataError(f"{path}: row {number} has {row[name]!r} for {name}, mm are due")
    points = np.array([[float(row[name]) for name in XYZ] for row in rows])
    return (points @ LPS if axes == "LPS" else points), rows


def write_points(
    path: Path, points: np.ndarray, rows: list[dict[str, str]], axes: Axes = "RAS"
) -> None:
    """Write the rows with other places, whole or not at all; tabs between columns in a .tsv.

    Args:
        path: ends in .tsv or .csv.
        points: [n, 3] mm, RAS+.
        rows: as they were read.
        axes: where those of the file go.
    """
    places = (points @ LPS if axes == "LPS" else points).round(DECIMALS) + 0.0  # no -0.0
    text = io.StringIO()
    between = "\t" if path.suffix == ".tsv" else ","
    table = csv.DictWriter(text, list(rows[0]), delimiter=between, lineterminator="\n")
    table.writeheader()
    for row, place in zip(rows, places.tolist(), strict=True):
        table.writerow({**row, **dict(zip(XYZ, place, strict=True))})
    write_text(path, text.getvalue())
