"""A session with napari: a window with the layers of some paths, which stays open or is pictured."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from vol3d.io.files import whole
from vol3d.viewer.folders import facts_of_model, kind_of
from vol3d.viewer.gathered import gather
from vol3d.viewer.layers import OURS, Original
from vol3d.viewer.window import Plane, add, go_to, prepare, show_plane

if TYPE_CHECKING:
    from napari import Viewer

WINDOW = (1280, 860)
"""Pixels, across and down."""


def open_window(
    paths: Sequence[Path],
    who: str | None = None,
    plane: Plane = "axial",
    at: Sequence[float] | None = None,
) -> "Viewer":
    """Open a window with what paths are.

    Args:
        paths: see `gathered.gather`; a cohort's table is beside its first person.
        who: whose, of folders with several people.
        plane: which is shown.
        at: x, y, z in mm that slices go through; the middle of the first image without it.

    Raises:
        DataError: a file is damaged, or there is nothing to show.
        ConfigError: there is no such path or person.
    """
    kinds = {path: kind_of(path) for path in paths}  # what is not there is said at once
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(gather, paths, who)  # while napari loads
        import napari

        layers = reading.result()
    viewer = prepare(napari.Viewer(title=", ".join(p.name for p in paths), show=True))
    viewer.window._qt_window.resize(*WINDOW)
    add(viewer, layers)
    show_plane(viewer, plane)
    if at is not None:
        go_to(viewer, at, centred=False)
    for path, kind in kinds.items():
        if kind == "cohort":
            add_cohort(viewer, path, [p for p, k in kinds.items() if k == "segmentations"])
        if kind == "model":
            add_facts(viewer, path)
    return viewer


def add_cohort(viewer: "Viewer", folder: Path, found: Sequence[Path]) -> None:
    """Put a cohort's table beside the picture; the layers of its first person are there already.

    With them goes, when another is clicked, what was `found` in that person's scans.
    """
    from vol3d.viewer.cohort_widget import CohortWidget

    table = CohortWidget(viewer)
    table.loaded = [
        layer
        for layer in viewer.layers
        if any(is_of(layer.metadata.get(OURS), one) for one in (folder, *found))
    ]
    table.open(folder)
    viewer.window.add_dock_widget(table, name="Cohort", area="right")


def is_of(original: Original | None, folder: Path) -> bool:
    """Whether a layer was made of a file in a folder."""
    path = original and original.path
    return path is not None and path.is_relative_to(folder)


def add_facts(viewer: "Viewer", path: Path) -> None:
    """Put what a model says of itself beside the picture."""
    from qtpy.QtWidgets import QLabel

    lines = [f"{name}: {value}" for name, value in facts_of_model(path)]
    text = QLabel("\n".join(lines))
    text.setMargin(8)
    viewer.window.add_dock_widget(text, name=f"Model {path.name}", area="right")


def picture(viewer: "Viewer", file: Path, *, window: bool) -> None:
    """Write what is seen as PNG, whole or not at all.

    Args:
        viewer: that is shown on a display.
        file: ends in .png.
        window: all of the window, not the canvas alone.
    """
    settle()
    with whole(file) as part:
        viewer.screenshot(str(part), canvas_only=not window, flash=False)


def settle(times: int = 10) -> None:
    """Let Qt do what it has to do, such as draw."""
    from qtpy.QtWidgets import QApplication

    for _ in range(times):
        QApplication.processEvents()
