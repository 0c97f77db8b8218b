"""What paths are as one page for a browser, where there is no display: slices to scroll through."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread

from vol3d.errors import DataError
from vol3d.report.page import Picture, Section, Table, page
from vol3d.report.slices import Overlay, Scan, Slices
from vol3d.viewer.folders import facts_of_model, is_model, preview_of
from vol3d.viewer.gathered import gather
from vol3d.viewer.layers import LayerTuple, Original, is_scan
from vol3d.viewer.straight import lattice, straight_grid
from vol3d.viewer.together import check_place, original_of, start_of
from vol3d.volume import Grid, Volume

MOST_VOXELS = 16_000_000
"""Of one layer of a page; what has more is shown coarser."""
ROUND = 0.5 + 1e-6
"""Added before rounding down: where two voxels are as near, all computers choose the same one."""


def page_of(paths: Sequence[Path], who: str | None, at: Sequence[float] | None) -> str:
    """The HTML of all paths.

    Args:
        paths: see `gathered.gather`.
        who: whose, of folders with several people.
        at: x, y, z in mm where slices go through at first; see `start_of` without it.

    Raises:
        DataError: none of them holds volumes or says what it is.
        ConfigError: `at` lies outside of what is shown.
    """
    layers = [layer for layer in gather(paths, who) if original_of(layer)]
    sections = [section_of_model(path) for path in paths if is_model(path)]
    if layers:
        sections.insert(0, Section("Slices", slices=[slices_of(layers, at)]))
    if not sections:
        raise DataError(f"{paths[0]}: holds no volume that a page can show; open it in napari")
    return page(", ".join(path.name for path in paths), sections)


def section_of_model(path: Path) -> Section:
    """What a model says of itself, and the last picture of its training, where there is one."""
    facts = Table(
        "What the model says of itself", ["", ""], [list(f) for f in facts_of_model(path)]
    )
    shown = []
    if preview := preview_of(path):
        figure = Figure(figsize=(10, 4), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(imread(preview), cmap="gray")
        axes.set_axis_off()
        shown = [Picture(figure, f"Preview at the end of training: {preview.stem}")]
    return Section(path.name, tables=[facts], pictures=shown)


def slices_of(layers: Sequence[LayerTuple], at: Sequence[float] | None = None) -> Slices:
    """Images and label maps on the grid of the first, to scroll through; of a series the first frame.

    Args:
        layers: images and label maps; what else there is, such as vectors, is left out.
        at: x, y, z in mm where slices go through at first.

    Raises:
        ConfigError: `at` lies outside of the first.
    """
    known = [layer for layer in layers if original_of(layer)]
    scans = [layer for layer in known if is_scan(layer[1])]
    first = (scans or known)[0]
    if at is not None:
        check_place([first], at)
    grid = shown_grid(original_of(first))
    here = [scan_of(layer, grid) for layer in scans]
    over = [overlay_of(layer, grid) for layer in known if not is_scan(layer[1])]
    place = start_of(known) if at is None else np.asarray(at, float)
    start = np.rint(np.linalg.solve(grid.affine, [*place, 1])[:3])
    start = np.clip(start, 0, np.array(grid.shape) - 1).astype(int).tolist()
    caption = f"Shown on {grid}; wheel: scroll, click: go there. [Voxels] are each file's own."
    return Slices(caption, here, over, tuple(start))


def shown_grid(original: Original) -> Grid:
    """That on which a page shows everything: along the world's axes, and not too fine."""
    grid = straight_grid(original.grid) or lattice(original.grid)
    return grid if prod(grid.shape) <= MOST_VOXELS else lattice(grid, most=MOST_VOXELS)


def nearest_voxels(file: Volume, grid: Grid) -> Volume:
    """A grid's voxels with the values of a file's nearest ones; of two as near, that of the higher index.

    Nothing is mixed, so that what a page tells of a place is what the file has there.
    """
    to_file = np.linalg.inv(file.affine) @ grid.affine
    data = np.zeros(grid.shape, file.data.dtype)
    y, z = np.indices(grid.shape[1:], sparse=True)
    for x in range(grid.shape[0]):  # a plane at a time, to take little memory
        at = [
            np.floor(r[0] * x + r[1] * y + r[2] * z + r[3] + ROUND).astype(int) for r in to_file[:3]
        ]
        is_inside = np.logical_and.reduce(
            [(v >= 0) & (v < n) for v, n in zip(at, file.shape, strict=True)]
        )
        data[x][is_inside] = file.data[
            tuple(np.broadcast_to(v, is_inside.shape)[is_inside] for v in at)
        ]
    return Volume(data, grid.affine, file.space_code)


def scan_of(layer: LayerTuple, grid: Grid) -> Scan:
    """An image, on the page's grid."""
    settings, original = layer[1], original_of(layer)
    volume = nearest_voxels(original.frames[0], grid)
    limits = settings["contrast_limits"]
    return Scan(settings["name"], volume, original.grid, limits, original.unit)


def overlay_of(layer: LayerTuple, grid: Grid) -> Overlay:
    """A label map, or a map of numbers, likewise."""
    settings, original = layer[1], original_of(layer)
    one = (settings["name"], nearest_voxels(original.frames[0], grid), original.grid)
    seen = settings.get("visible", True)
    if original.is_labels:
        return Overlay(*one, original.names, original.colours, seen=seen)
    return Overlay(*one, limits=settings["contrast_limits"], unit=original.unit, seen=seen)
