"""A window of napari in which brains are upright, with places and values of the originals told."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from vol3d.viewer.axes import PLANES, SIDES_UP
from vol3d.viewer.cursor import told, world_of
from vol3d.viewer.layers import LayerTuple

if TYPE_CHECKING:
    from napari import Viewer


def prepare(viewer: "Viewer") -> "Viewer":
    """Make a viewer's screen ours: sides and up as in `axes`, the status bar as in `cursor`."""
    viewer.scene.camera.orientation = SIDES_UP
    viewer.dims.axis_labels = (*viewer.dims.axis_labels[:-3], "z", "y", "x")
    return viewer


def add(viewer: "Viewer", layers: Iterable[LayerTuple]) -> list:
    """Add layers, and return them as napari has them."""
    from napari.layers import Layer

    return [viewer.add_layer(Layer.create(*layer)) for layer in layers]


def go_to(viewer: "Viewer", point: np.ndarray) -> None:
    """Slice through a point x, y, z in mm, RAS+, and bring it to the middle of the screen."""
    from vol3d.viewer.cursor import position_of

    position = position_of(point, viewer.dims.ndim)
    first = viewer.dims.ndim - 3
    for axis in range(first, viewer.dims.ndim):
        viewer.dims.set_point(axis, position[axis])
    viewer.scene.camera.center = tuple(position[first:])


def show_plane(viewer: "Viewer", plane: str) -> None:
    """Show a plane in 2-D: axial, coronal or sagittal."""
    first = viewer.dims.ndim - 3
    viewer.dims.ndisplay = 2
    viewer.dims.order = (*range(first), *(first + axis for axis in PLANES[plane]))


def place_of(viewer: "Viewer") -> np.ndarray:
    """x, y, z in mm, RAS+, that the slices go through."""
    return world_of(viewer.dims.point)


def told_under_cursor(viewer: "Viewer") -> str:
    """What the status bar says."""
    return told(viewer.layers, viewer.cursor.position)
