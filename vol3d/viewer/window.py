"""A window of napari in which brains are upright, with places and values of the originals told."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from vol3d.viewer.axes import PLANES, SIDES_UP
from vol3d.viewer.cursor import position_of, world_of
from vol3d.viewer.layers import LayerTuple
from vol3d.viewer.together import start_of

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

Plane = Literal["axial", "coronal", "sagittal", "3d"]


def prepare(viewer: "Viewer") -> "Viewer":
    """Make a viewer's screen ours: sides and up as in `axes`, a line with places and values below."""
    from vol3d.viewer.cursor_widget import CursorWidget

    upright(viewer)
    line = CursorWidget(viewer)
    viewer.window.add_dock_widget(line, name="Places and values", area="bottom")
    return viewer


def upright(viewer: "Viewer") -> None:
    """Show brains upright, right on the right: as in `axes`."""
    viewer.scene.camera.orientation = SIDES_UP


def add(viewer: "Viewer", layers: Iterable[LayerTuple]) -> "list[Layer]":
    """Add layers, and return them as napari has them; where nothing was, slices go through `start_of`."""
    from napari.layers import Layer

    layers, was_empty = list(layers), not viewer.layers
    added = [viewer.add_layer(Layer.create(*layer)) for layer in layers]
    viewer.dims.axis_labels = (*viewer.dims.axis_labels[:-3], "z", "y", "x")[-viewer.dims.ndim :]
    if was_empty and added:
        viewer.reset_view()
        go_to(viewer, start_of(layers), centred=False)
    return added


def insert(viewer: "Viewer", layers: Mapping[int, LayerTuple]) -> None:
    """Add layers at their places in the list, numbered from the bottom; the chosen one stays so."""
    from napari.layers import Layer

    chosen = viewer.layers.selection.active
    for place, layer in sorted(layers.items()):
        viewer.layers.insert(place, Layer.create(*layer))
    viewer.layers.selection.active = chosen


def go_to(viewer: "Viewer", point: Sequence[float], *, centred: bool = True) -> None:
    """Slice through a point x, y, z in mm, RAS+, as if the cursor were there.

    Args:
        viewer: whose slices.
        point: where.
        centred: bring it to the middle of the screen too.
    """
    position = position_of(point, max(viewer.dims.ndim, 3))
    first = len(position) - 3
    axes = range(first, viewer.dims.ndim)
    viewer.dims.set_point([*axes], [position[a] for a in axes])
    viewer.cursor.position = tuple(position)  # so that the line below tells of it
    if centred:
        on_screen = [position[a] for a in viewer.dims.displayed]  # depth, down and across
        viewer.scene.camera.center = (0.0, *on_screen)[-3:]


def show_plane(viewer: "Viewer", plane: Plane) -> None:
    """Show a plane in 2-D (axial, coronal or sagittal), or all of it in 3-D, from above and ahead."""
    first = viewer.dims.ndim - 3
    viewer.dims.ndisplay = 3 if plane == "3d" else 2
    order = PLANES["axial" if plane == "3d" else plane]
    viewer.dims.order = (*range(first), *(first + axis for axis in order))
    viewer.reset_view()


def place_of(viewer: "Viewer") -> np.ndarray:
    """x, y, z in mm, RAS+, that the slices go through."""
    return world_of(viewer.dims.point)


def settle(times: int = 10) -> None:
    """Let Qt do what it has to do, such as draw."""
    from qtpy.QtWidgets import QApplication

    for _ in range(times):
        QApplication.processEvents()
