"""A volume in three planes, to scale and with the sides marked, as a reader expects it.

Front up, the person's left on the left. matplotlib is loaded when something is drawn.
"""

import io
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vol3d.errors import ConfigError
from vol3d.grid import Grid
from vol3d.io.text import brief, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
SIDES = ("LR", "LR", "PA")  # what lies on the left and right of the axial, coronal, sagittal plane
ENDS = ("AP", "SI", "SI")  # what lies at their upper and lower edge
DIFFERENCE_LIMIT = 0.2
"""Differences are drawn from minus to plus this much of the intensity range."""
INCHES = 9.0
HEADROOM_MM = 16.0
"""Above the planes, for a title."""
BAR_MM = 50.0
EDGES = ((0.04, 0.5), (0.96, 0.5), (0.5, 0.965), (0.5, 0.035))
"""Where letters stand, in parts of width and height."""


def three_slices(x: np.ndarray, at: tuple[int, int, int] | None = None) -> list[np.ndarray]:
    """Axial, coronal and sagittal slices of x [X, Y, Z] in RAS+, as rows from top to bottom.

    Axial: anterior up, left on the left (neurological convention). Coronal: superior up, left on
    the left. Sagittal: superior up, posterior on the left.
    """
    i, j, k = at or tuple(n // 2 for n in x.shape)
    return [x[:, :, k].T[::-1], x[:, j, :].T[::-1], x[i, :, :].T[::-1]]


def planes_shown(shape: tuple[int, ...]) -> list[int]:
    """Which of the three slices show something: all, or of a volume one voxel thick the one it is."""
    thin = [{2: 0, 1: 1, 0: 2}[axis] for axis, n in enumerate(shape) if n == 1]
    return thin[:1] or [0, 1, 2]


def plane_sizes(
    shape: tuple[int, ...], spacing: tuple[float, float, float]
) -> list[tuple[float, float]]:
    """Width and height in mm of the axial, coronal and sagittal plane."""
    x, y, z = (n * s for n, s in zip(shape, spacing, strict=True))
    return [(x, y), (x, z), (y, z)]


def middle(volumes: list[np.ndarray]) -> tuple[int, int, int]:
    """The middle voxel of the brains, a little higher so that the axial slice has ventricles.

    Of the box around the voxels that are above zero in most, so that an odd image moves nothing.
    """
    there = np.mean([x > 0.05 for x in volumes], axis=0) > 0.5
    if not there.any():
        return tuple(n // 2 for n in there.shape)
    boxes = zip(np.nonzero(there), (0.5, 0.5, 0.55), strict=True)
    return tuple(round(i.min() + share * (i.max() - i.min())) for i, share in boxes)


def fullest(there: np.ndarray) -> tuple[int, int, int]:
    """The voxel in whose planes there is most of a mask [X, Y, Z], along each axis by itself."""
    along = [there.sum(tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    return tuple(int(n.argmax()) if n.any() else len(n) // 2 for n in along)


def window(x: np.ndarray) -> tuple[float, float]:
    """The values that are black and white: 0, or where there are some below the lowest, to the highest.

    One voxel in two hundred may lie beyond on either side.
    """
    values = x[x != 0].astype(np.float64)
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, [0.5, 99.5])
    low = min(low, 0.0)
    return float(low), float(high if high > low else low + 1)


def draw_plane(
    axes: "Axes",
    picture: np.ndarray,
    outline: np.ndarray | None,
    size: tuple[float, float],
    bottom: float,
    letters: str,
    *,
    limits: tuple[float, float] = (0, 1 / 1.2),
    is_difference: bool = False,
) -> None:
    """One slice, rows from top to bottom, in mm, with the letters of its sides; and a mask's edge.

    Args:
        axes: where it is drawn.
        picture: [rows, columns].
        outline: [rows, columns] bool, whose edge is drawn over it.
        size: width and height, mm.
        bottom: how far above the edge of the axes the picture begins, mm.
        letters: of its left and its right, and if wanted of its upper and lower edge.
        limits: the values that are black and white.
        is_difference: drawn in blue (below zero) and red (above).
    """
    width, height = size
    low, high = (-DIFFERENCE_LIMIT, DIFFERENCE_LIMIT) if is_difference else limits
    place = {"extent": (0, width, bottom, bottom + height), "origin": "upper"}
    cmap = "RdBu_r" if is_difference else "gray"
    axes.imshow(picture, cmap=cmap, vmin=low, vmax=high, interpolation="nearest", **place)
    if outline is not None and outline.any() and not outline.all():
        pen = {"levels": [0.5], "colors": "#ff5050", "linewidths": 0.6}
        axes.contour(outline.astype(float), **pen, **place)
    axes.set(xlim=(0, width), aspect="equal", xticks=[], yticks=[])
    axes.set_facecolor("#f7f7f7" if is_difference else "black")
    axes.spines[:].set_visible(False)
    ink = "black" if is_difference else "white"
    for (across, up), letter in zip(EDGES, letters, strict=False):
        words = {"color": ink, "fontsize": 7, "ha": "center", "va": "center"}
        axes.text(across * width, bottom + up * height, letter, **words)


@dataclass(frozen=True, eq=False)
class Shown:
    """One volume in three planes under a title.

    Attributes:
        title: what it is.
        x: [X, Y, Z] in RAS+.
        outline: [X, Y, Z] labels or a mask, in RAS+, whose edge is drawn over it.
    """

    title: str
    x: np.ndarray
    outline: np.ndarray | None = None


def voxel_at(shown: Sequence[Shown], grid: Grid, at: Sequence[float] | None) -> tuple:
    """The voxel at a point, mm, RAS+; None: the middle of what is above 0.

    Raises:
        ConfigError: the point lies outside, or is none.
    """
    if at is None:
        return middle([one.x / window(one.x)[1] for one in shown])
    point = np.array(at, object)
    if point.shape != (3,) or not all(isinstance(x, int | float | np.number) for x in point):
        raise ConfigError(f"at={brief(at)}: a point is due, three numbers in mm (RAS+)")
    voxel = np.rint((np.linalg.inv(grid.affine) @ [*at, 1.0])[:3]).astype(int).tolist()
    if not all(0 <= i < n for i, n in zip(voxel, grid.shape, strict=True)):
        raise ConfigError(f"at={tuple(at)} mm: lies outside of a grid of {grid}")
    return tuple(voxel)


def figure_of(
    shown: Sequence[Shown],
    grid: Grid,
    at: Sequence[float] | None = None,
    note: str = "",
    limits: tuple[float, float] | None = None,
) -> "Figure":
    """Volumes of one grid, each in the same planes and greys; the letters of RAS on every side.

    Args:
        shown: one or more; two stand side by side.
        grid: of all, in RAS+.
        at: the point, mm, RAS+, through which the planes go; None: the middle of what is above 0.
        note: what is said of all beside that.
        limits: the values that are black and white; None: see `window`, and they are told.

    Raises:
        ConfigError: the point lies outside.
    """
    from matplotlib.figure import Figure

    voxel = voxel_at(shown, grid, at)
    note = f"{where(grid, voxel)}; {note}"
    if limits is None:
        limits = window(np.stack([one.x for one in shown]))
        note += f"; black {limits[0]:.3g}, white {limits[1]:.3g}"
    planes, sizes = planes_shown(grid.shape), plane_sizes(grid.shape, grid.spacing)
    tallest = max(sizes[p][1] for p in planes)
    across = sum(sizes[p][0] for p in planes)
    columns = min(len(shown), 2 if len(planes) == 3 else 6)
    rows = -(-len(shown) // columns)
    head = HEADROOM_MM * columns  # words are as large, whatever the scale
    mm_high = rows * (tallest + head) + head
    wide = INCHES * min(1, columns * len(planes) / 2)  # one slice alone needs less
    figure = Figure(figsize=(wide, wide * mm_high / (columns * across)), dpi=100)
    figure.set_facecolor("black")
    bottom = head / mm_high
    places = figure.add_gridspec(
        rows,
        columns * len(planes),
        width_ratios=[sizes[p][0] for p in planes] * columns,
        **{"wspace": 0, "hspace": 0, "left": 0, "right": 1, "bottom": bottom, "top": 1},
    )
    ink = {"color": "white", "fontsize": 9, "parse_math": False}
    for n, one in enumerate(shown):
        row, column = divmod(n, columns)
        pictures = three_slices(one.x, voxel)
        edges = [None] * 3 if one.outline is None else three_slices(one.outline > 0, voxel)
        for i, p in enumerate(planes):
            axes = figure.add_subplot(places[row, column * len(planes) + i], zorder=-i)
            low = (tallest - sizes[p][1]) / 2
            letters = SIDES[p] + ENDS[p]
            draw_plane(axes, pictures[p], edges[p], sizes[p], low, letters, limits=limits)
            axes.set_ylim(0, tallest + head)
            if i == 0:
                top = tallest + head - 3
                axes.text(4, top, visible(one.title), va="top", **ink)
    figure.text(0.006, bottom / 2, visible(note), va="center", **{**ink, "fontsize": 7})
    draw_bar(figure, BAR_MM / (columns * across), bottom / 2)
    return figure


def where(grid: Grid, voxel: tuple) -> str:
    """Where the planes go through; where they are not those of the world, by how much they lean."""
    x, y, z = (grid.affine @ [*voxel, 1.0])[:3]
    lean = np.degrees(np.arccos(np.clip(np.diag(grid.direction), -1, 1))).max()
    oblique = f", oblique by {lean:.0f} degrees" if lean > 1 else ""
    return f"through {x:.0f}, {y:.0f}, {z:.0f} mm (RAS+){oblique}"


def draw_bar(figure: "Figure", width: float, up: float) -> None:
    """A bar as long as BAR_MM in the lower right corner."""
    from matplotlib.lines import Line2D

    ink = {"color": "white"}
    figure.add_artist(Line2D([0.985 - width, 0.985], [up, up], linewidth=1.5, **ink))
    words = {"fontsize": 7, "ha": "right", "va": "center", **ink}
    figure.text(0.985 - width - 0.008, up, f"{BAR_MM:g} mm", **words)


def png_of(figure: "Figure") -> bytes:
    """A figure as the bytes of a PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def put_up(figure: "Figure") -> None:
    """Show a figure: beneath the cell of a notebook, else in a window of matplotlib's."""
    if "IPython" in sys.modules:
        from IPython import get_ipython
        from IPython.display import Image, display

        if get_ipython() is not None:
            display(Image(png_of(figure)))
            return
    from matplotlib import pyplot as plt

    if plt.get_backend().lower() == "agg":
        log.warning("warning: no display here; figure().savefig('brain.png') writes the picture")
        return
    width, height = figure.get_size_inches()
    axes = plt.figure(figsize=(width, height), facecolor="black").add_axes((0, 0, 1, 1))
    axes.imshow(plt.imread(io.BytesIO(png_of(figure))), interpolation="nearest")
    axes.axis("off")
    plt.show()
