"""People with the contours of consensus and truth, and beside them the doubts and the errors."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vol3d.io.text import visible
from vol3d.metrics.masks import bounding_box
from vol3d.planes import SIDES, fullest, plane_sizes, planes_shown, three_slices
from vol3d.report.pictures import Spacing

TRUTH, CONSENSUS, ERROR = "#5ad65a", "#ff5050", "#4fd8ff"
MARGIN_MM = 15.0
"""Around all structures."""
INCHES = 12.5
TITLE_INCHES = 0.32


@dataclass(frozen=True, eq=False)
class Shown:
    """A person, all in RAS+ on one grid.

    Attributes:
        title: who it is, and why they are shown.
        image: [X, Y, Z] in [0, 1].
        consensus: [X, Y, Z] labels.
        truth: [X, Y, Z] labels.
        entropy: [X, Y, Z] nats.
        spacing: mm along X, Y, Z.
        at: the label through which the slices go.
    """

    title: str
    image: np.ndarray
    consensus: np.ndarray
    truth: np.ndarray
    entropy: np.ndarray
    spacing: Spacing
    at: int

    def slices(self) -> tuple[int, int, int]:
        """The planes with most of the structure, by truth and consensus together."""
        both = (self.truth == self.at).astype(int) + (self.consensus == self.at)
        if not both.any():
            both = (self.truth > 0).astype(int) + (self.consensus > 0)
        return fullest(both)

    def cropped(self) -> "Shown":
        """What lies around the structures."""
        foreground = (self.truth > 0) | (self.consensus > 0)
        if not foreground.any():
            return self
        box = bounding_box(foreground, tuple(int(np.ceil(MARGIN_MM / s)) for s in self.spacing))
        parts = (self.image, self.consensus, self.truth, self.entropy)
        return Shown(self.title, *[x[box] for x in parts], self.spacing, self.at)


def people_in_rows(people: list[Shown], num_labels: int) -> Figure:
    """A row for each person: three planes with contours, and the same with entropy and errors.

    Args:
        people: whom to show.
        num_labels: K; the scale of the entropy ends at ln K.
    """
    people = [p.cropped() for p in people]
    sizes = [sizes_of(p) for p in people]
    widths = [2 * sum(w for w, _ in s) for s in sizes]
    heights = [
        INCHES * max(h for _, h in s) / w + TITLE_INCHES for s, w in zip(sizes, widths, strict=True)
    ]
    figure = Figure(figsize=(INCHES, sum(heights)), dpi=110, facecolor="black")
    rows = figure.add_gridspec(
        len(people), 1, height_ratios=heights, hspace=0, left=0, right=1, bottom=0, top=1
    )
    for row, (person, some) in enumerate(zip(people, sizes, strict=True)):
        planes = planes_shown(person.image.shape)
        share = 1 - TITLE_INCHES / heights[row]
        inner = rows[row].subgridspec(
            2,
            2 * len(planes),
            width_ratios=[w for w, _ in some] * 2,
            height_ratios=[1 - share, share],
            hspace=0,
            wspace=0,
        )
        title = figure.add_subplot(inner[0, :], facecolor="black")
        title.axis("off")
        words = {"color": "white", "fontsize": 10, "va": "center", "parse_math": False}
        title.text(0.004, 0.5, visible(person.title), transform=title.transAxes, **words)
        if row == 0:
            told = "entropy; errors outlined"
            title.text(0.504, 0.5, told, transform=title.transAxes, **words)
        cuts = {
            name: three_slices(getattr(person, name), person.slices())
            for name in ("image", "consensus", "truth", "entropy")
        }
        for i, p in enumerate(planes):
            size = some[i]
            left = figure.add_subplot(inner[1, i])
            show(left, cuts["image"][p], size, "gray", 1 / 1.2, SIDES[p])
            outline(left, cuts["truth"][p], size, TRUTH, 1.4)
            outline(left, cuts["consensus"][p], size, CONSENSUS, 0.9)
            right = figure.add_subplot(inner[1, len(planes) + i])
            show(right, cuts["entropy"][p], size, "inferno", np.log(num_labels), SIDES[p])
            wrong = cuts["consensus"][p] != cuts["truth"][p]
            outline(right, wrong, size, ERROR, 0.8)
    return figure


def sizes_of(person: Shown) -> list[tuple[float, float]]:
    """Width and height of each plane that is shown, mm."""
    sizes = plane_sizes(person.image.shape, person.spacing)
    return [sizes[p] for p in planes_shown(person.image.shape)]


def show(
    axes: Axes,
    picture: np.ndarray,
    size: tuple[float, float],
    colours: str,
    most: float,
    sides: str,
) -> None:
    """One slice to scale, with a letter on either side."""
    width, height = size
    extent = (0, width, 0, height)
    axes.imshow(picture, cmap=colours, vmin=0, vmax=most, extent=extent, interpolation="nearest")
    axes.set(xticks=[], yticks=[], aspect="equal", facecolor="black", anchor="C")
    axes.spines[:].set_visible(False)
    for at, letter in zip((0.03, 0.97), sides, strict=True):
        words = {"color": "white", "fontsize": 7, "ha": "center", "va": "center"}
        axes.text(at * width, height / 2, letter, **words)


def outline(
    axes: Axes, labels: np.ndarray, size: tuple[float, float], colour: str, width: float
) -> None:
    """The edges of each label, along the borders of its voxels."""
    fine = np.kron(labels.astype(int), np.ones((4, 4), int))  # so that edges follow the voxels
    extent = (0, size[0], 0, size[1])
    for label in np.unique(fine[fine > 0]):
        inside = (fine == label).astype(float)
        axes.contour(
            inside, levels=[0.5], colors=colour, linewidths=width, extent=extent, origin="upper"
        )
