"""What goes beside the picture: the widget that a cohort, a segmentation, a model or a registration has.

Widgets are asked for by the names that napari's menu has for them: they are made of verbs, above us.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vol3d.data.bids_writer import DESCRIPTION, parse_entities
from vol3d.viewer.files import who_of
from vol3d.viewer.folders import READY, Kind, facts_of_model
from vol3d.viewer.layers import OURS, Original
from vol3d.viewer.registered import is_registrations, name_of
from vol3d.viewer.window import settle

if TYPE_CHECKING:
    from napari import Viewer
    from qtpy.QtWidgets import QDockWidget


def add_widgets(viewer: "Viewer", kinds: Mapping[Path, Kind]) -> list[Any]:
    """Put beside the picture what goes with paths whose layers are there; several are tabs.

    Args:
        viewer: the window.
        kinds: what is at each path.

    Returns:
        those that work beside the window.
    """
    cohort = next((path for path, kind in kinds.items() if kind == "cohort"), None)
    image = next((path for path, kind in kinds.items() if kind == "file"), None)
    found = [path for path, kind in kinds.items() if kind == "segmentations"]
    table, docks, working = None, [], []
    for path, kind in sorted(kinds.items(), key=lambda one: one[1] != "cohort"):
        if kind == "cohort":
            table, dock = cohort_table(viewer, path, found)
            docks.append(dock)
        elif kind == "model":
            docks.append(facts(viewer, path))
            if dict(facts_of_model(path)).get("kind") == "diffusion":
                widget, dock = widget_of(viewer, "Generate")
                docks.append(dock)
                working.append(widget)
                if path != READY:  # it opens that by itself
                    widget.open(str(path))
        elif kind in ("segmentations", "registrations"):
            name = {"segmentations": "Ensemble", "registrations": "Registration"}[kind]
            widget, dock = widget_of(viewer, name)
            docks.append(dock)
            working.append(widget)
            data = cohort or (image and data_with(image, kind))
            widget.show_folder(path, data, seen_in(viewer, path))
            if kind == "segmentations" and table is not None:
                table.shows.connect(widget.follow)
    for one, other in pairwise(docks):
        viewer.window._qt_window.tabifyDockWidget(one, other)
    if docks:
        settle()  # Qt raises only what it has shown
        (docks[0] if table is not None else docks[-1]).raise_()
    return working


def data_with(image: Path, kind: Kind) -> Path | None:
    """Where other images are looked for beside one; a registration's checksums tell them anywhere."""
    return dataset_of(image) or (image.parent if kind == "registrations" else None)


def dataset_of(image: Path) -> Path | None:
    """The top of the dataset that an image belongs to; None where it stands alone."""
    for folder in image.absolute().parents:
        if (folder / DESCRIPTION).is_file():
            return folder
        if folder.name.startswith("sub-"):
            return folder.parent
    return None


def widget_of(viewer: "Viewer", name: str) -> "tuple[Any, QDockWidget]":
    """A widget of napari's menu, and its place in the window."""
    dock, widget = viewer.window.add_plugin_dock_widget("vol3d", name)
    return widget, dock


def cohort_table(viewer: "Viewer", folder: Path, found: list[Path]) -> "tuple[Any, QDockWidget]":
    """A cohort's table; the layers of its first person are there already.

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
    return table, viewer.window.add_dock_widget(table, name="Cohort", area="right")


def is_of(original: Original | None, folder: Path) -> bool:
    """Whether a layer was made of a file in a folder."""
    path = original and original.path
    return path is not None and path.is_relative_to(folder)


def seen_in(viewer: "Viewer", folder: Path) -> str | None:
    """Whose layers of a folder are there: sub-X or sub-X_ses-Y; of a registration, its pair."""
    every = (layer.metadata.get(OURS) for layer in viewer.layers)
    path = next((one.path for one in every if is_of(one, folder)), None)
    if path is None:
        return None
    return (
        name_of(path)
        if "space" in parse_entities(path) and is_registrations(folder)
        else who_of(path)
    )


def facts(viewer: "Viewer", path: Path) -> "QDockWidget":
    """What a model says of itself."""
    from qtpy.QtWidgets import QLabel

    text = QLabel("\n".join(f"{name}: {value}" for name, value in facts_of_model(path)))
    text.setMargin(8)
    return viewer.window.add_dock_widget(text, name=f"Model {path.name}", area="right")
