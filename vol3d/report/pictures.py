"""Brains in three planes, to scale and with the sides marked, as matplotlib figures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vol3d.data.montage import planes_shown, three_slices
from vol3d.io.files import make_folder, whole
from vol3d.io.text import visible

Spacing = tuple[float, float, float]
SIDES = ("LR", "LR", "PA")  # what lies on the left and right of the axial, coronal, sagittal plane
WIDTH_INCHES = 12.0
HEADROOM_MM = 26.0  # above each row, for its titles
DIFFERENCE_LIMIT = 0.2
"""Differences are drawn from minus to plus this much of the intensity range."""


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


def middle(volumes: list[np.ndarray]) -> tuple[int, int, int]:
    """The middle voxel of the brains, a little higher so that the axial slice has ventricles.

    Of the box around the voxels that are above zero in most, so that an odd image moves nothing.
    """
    there = np.mean([x > 0.05 for x in volumes], axis=0) > 0.5
    if not there.any():
        return tuple(n // 2 for n in there.shape)
    boxes = zip(np.nonzero(there), (0.5, 0.5, 0.55), strict=True)
    return tuple(round(i.min() + share * (i.max() - i.min())) for i, share in boxes)


def panels_in_rows(rows: list[list[Panel]], spacing: Spacing, at: tuple[int, int, int]) -> Figure:
    """A grid of panels; each shows the same axial, coronal and sagittal slice.

    Args:
        rows: panels [rows][columns]; the last may be shorter.
        spacing: mm per voxel along X, Y, Z.
        at: the voxel through which the slices go.
    """
    x_mm, y_mm, z_mm = (n * s for n, s in zip(rows[0][0].x.shape, spacing, strict=True))
    planes = planes_shown(rows[0][0].x.shape)
    sizes = [[(x_mm, y_mm), (x_mm, z_mm), (y_mm, z_mm)][p] for p in planes]  # width and height
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
                plane = pictures[p], outlines[p], sizes[i], tallest, SIDES[p]
                draw_plane(axes, *plane, panel.is_difference)
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


def draw_plane(
    axes: Axes,
    picture: np.ndarray,
    outline: np.ndarray | None,
    size: tuple[float, float],
    tallest: float,
    sides: str,
    is_difference: bool,
) -> None:
    """One slice, rows from top to bottom, in mm, with a letter on either side; and a mask's edge."""
    width, height = size
    low, high = (-DIFFERENCE_LIMIT, DIFFERENCE_LIMIT) if is_difference else (0, 1 / 1.2)
    bottom = (tallest - HEADROOM_MM - height) / 2
    place = {"extent": (0, width, bottom, bottom + height), "origin": "upper"}
    cmap = "RdBu_r" if is_difference else "gray"
    axes.imshow(picture, cmap=cmap, vmin=low, vmax=high, interpolation="nearest", **place)
    if outline is not None:
        pen = {"levels": [0.5], "colors": "#ff5050", "linewidths": 0.6}
        axes.contour(outline.astype(float), **pen, **place)
    axes.set(xlim=(0, width), ylim=(0, tallest), aspect="equal", xticks=[], yticks=[])
    axes.set_facecolor("#f7f7f7" if is_difference else "black")
    axes.spines[:].set_visible(False)
    ink = "black" if is_difference else "white"
    for at, letter in zip((0.04, 0.96), sides, strict=True):
        words = {"color": ink, "fontsize": 7, "ha": "center", "va": "center"}
        axes.text(at * width, bottom + height / 2, letter, **words)
