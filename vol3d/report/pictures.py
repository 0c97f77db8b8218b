"""Brains in three planes, to scale and with the sides marked, as matplotlib figures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vol3d.io.files import make_folder, whole
from vol3d.io.text import visible
from vol3d.planes import SIDES, draw_plane, plane_sizes, planes_shown, three_slices

Spacing = tuple[float, float, float]
WIDTH_INCHES = 12.0
HEADROOM_MM = 26.0  # above each row, for its titles


@dataclass(frozen=True)
class Panel:
    """One volume in three planes under a title.

    Attributes:
        title: what it is.
        x: [X, Y, Z] in RAS+; in [0, 1], or a difference in [-1, 1].
        is_difference: drawn in blue (below zero) and red (above).
        outline: [X, Y, Z] bool, whose edge is drawn over it.
    """

    title: str
    x: np.ndarray
    is_difference: bool = False
    outline: np.ndarray | None = None


def panels_in_rows(rows: list[list[Panel]], spacing: Spacing, at: tuple[int, int, int]) -> Figure:
    """A grid of panels; each shows the same axial, coronal and sagittal slice.

    Args:
        rows: panels [rows][columns]; the last may be shorter.
        spacing: mm per voxel along X, Y, Z.
        at: the voxel through which the slices go.
    """
    planes = planes_shown(rows[0][0].x.shape)
    in_mm = plane_sizes(rows[0][0].x.shape, spacing)
    sizes = [in_mm[p] for p in planes]  # width and height
    tallest = max(h for _, h in sizes) + HEADROOM_MM
    columns = len(rows[0])
    across = columns * sum(w for w, _ in sizes)
    figure = Figure(figsize=(WIDTH_INCHES, WIDTH_INCHES * len(rows) * tallest / across), dpi=110)
    figure.set_facecolor("black")
    edges = {"wspace": 0, "hspace": 0, "left": 0, "right": 1, "bottom": 0, "top": 1}
    widths = [w for w, _ in sizes] * columns
    grid = figure.add_gridspec(len(rows), len(widths), width_ratios=widths, **edges)
    for r, row in enumerate(rows):
        for c, panel in enumerate(row):
            outlines = [None] * 3 if panel.outline is None else three_slices(panel.outline, at)
            pictures = three_slices(panel.x, at)
            for i, p in enumerate(planes):
                axes = figure.add_subplot(grid[r, len(planes) * c + i])
                low = (tallest - HEADROOM_MM - sizes[i][1]) / 2
                plane = pictures[p], outlines[p], sizes[i], low, SIDES[p]
                draw_plane(axes, *plane, is_difference=panel.is_difference)
                axes.set_ylim(0, tallest)
                axes.set_zorder(-i)  # a title may run over the planes to its right
                if i == 0:
                    ink = "black" if panel.is_difference else "white"
                    ink_and_place = {"color": ink, "fontsize": 9, "va": "top"}
                    title = visible(panel.title)
                    axes.text(4, tallest - 4, title, parse_math=False, **ink_and_place)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all; the folder is made."""
    make_folder(path.parent)
    with whole(path) as part:
        figure.savefig(part, format="png")


def in_rows(panels: list[Panel], columns: int = 2) -> list[list[Panel]]:
    """Panels laid out in so many columns; the last row may be shorter."""
    return [panels[i : i + columns] for i in range(0, len(panels), columns)]
