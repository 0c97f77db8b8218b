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
from vol3d.viewer.layers import OURS, LayerTuple, Original, is_scan
from vol3d.viewer.straight import lattice, straight
from vol3d.volume import Grid, Volume

MOST_VOXELS = 16_000_000
"""Of one layer of a page; what has more is shown coarser."""


def page_of(paths: Sequence[Path], who: str | None, at: Sequence[float] | None) -> str:
    """The HTML of all paths.

    Args:
        paths: see `gathered.gather`.
        who: whose, of folders with several people.
        at: x, y, z in mm where slices go through at first; the middle without it.

    Raises:
        DataError: none of them holds volumes or says what it is.
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
    """
    known = [(layer[1], original_of(layer)) for layer in layers if original_of(layer)]
    scans = [(s, o) for s, o in known if is_scan(s)]
    first = (scans or known)[0][1]
    grid = shown_grid(first)
    here = [Scan(s["name"], on(o, grid), s["contrast_limits"], o.unit) for s, o in scans]
    over = [overlay_of(s, o, on(o, grid)) for s, o in known if not is_scan(s)]
    place = middle(first) if at is None else np.asarray(at, float)
    start = np.rint(np.linalg.solve(grid.affine, [*place, 1])[:3])
    start = np.clip(start, 0, np.array(grid.shape) - 1).astype(int).tolist()
    whose = known_as(first, layers)
    caption = f"Shown on {grid}; wheel: scroll, click: go there. Voxels are those of {whose}."
    return Slices(caption, here, over, first.grid.affine, tuple(start))


def known_as(original: Original, layers: Sequence[LayerTuple]) -> str:
    """The file whose voxels are told, or its layer."""
    name = next(s["name"] for _, s, _ in layers if s["metadata"].get(OURS) is original)
    return original.path.name if original.path else name


def original_of(layer: LayerTuple) -> Original | None:
    """What a layer was made of; None of points, vectors and pictures."""
    return layer[1].get("metadata", {}).get(OURS)


def shown_grid(original: Original) -> Grid:
    """That on which a page shows everything: along the world's axes, and not too fine."""
    grid = straight(original.frames[0], nearest=True).grid
    return grid if prod(grid.shape) <= MOST_VOXELS else lattice(grid, most=MOST_VOXELS)


def on(original: Original, grid: Grid) -> Volume:
    """The first frame on the page's grid."""
    volume = straight(original.frames[0], nearest=original.is_labels)
    if volume.grid.matches(grid, tolerance_mm=0.01):
        return volume
    return original.frames[0].resample(grid, nearest=original.is_labels)


def overlay_of(settings: dict, original: Original, volume: Volume) -> Overlay:
    """A label map, or a map of numbers."""
    seen = settings.get("visible", True)
    if not original.is_labels:
        limits = settings["contrast_limits"]
        return Overlay(settings["name"], volume, limits=limits, unit=original.unit, seen=seen)
    return Overlay(settings["name"], volume, original.names, original.colours, seen=seen)


def middle(original: Original) -> np.ndarray:
    """x, y, z in mm of the middle of the box around the voxels above 0."""
    data = original.frames[0].data
    box = [np.flatnonzero((data > 0).any(tuple({0, 1, 2} - {a}))) for a in range(3)]
    ends = [
        (b[0] + b[-1]) / 2 if b.size else (n - 1) / 2 for b, n in zip(box, data.shape, strict=True)
    ]
    return (original.grid.affine @ [*ends, 1])[:3]
