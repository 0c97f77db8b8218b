"""What is shown of a transform at one place of its path, as layers."""

from typing import TYPE_CHECKING

import numpy as np

from vol3d.viewer.axes import turned, turned_affine
from vol3d.viewer.layers import OURS, LayerTuple, field_layer, image_layer, labels_layer

if TYPE_CHECKING:
    from vol3d.viewer.registration import GridLines, Step

VECTORS, GRID, JACOBIAN, FOLDED = "vectors", "warped grid", "log-Jacobian", "folded voxels"
OVERLAYS = JACOBIAN, GRID, VECTORS, FOLDED
STRETCH = 0.7
"""log det J that is full colour: twice as large, or half."""


def overlay(name: str, step: "Step", lines: "GridLines | None") -> LayerTuple:
    """One of `OVERLAYS`.

    Args:
        name: which.
        step: the place of the path.
        lines: the grid, where that is meant.
    """
    if name == VECTORS:
        return field_layer(step.u, step.grid, name)
    if name == GRID:
        return lines_layer(lines, name, min(step.grid.spacing))
    if name == FOLDED:
        red = {1: "#ff2020"}
        return labels_layer(step.folded(), name, names={1: "folded"}, colours=red, opacity=1.0)
    look = {"colormap": "PiYG", "blending": "translucent", "opacity": 0.5}
    return image_layer(step.log_jacobian(), name, limits=(-STRETCH, STRETCH), **look)


def lines_layer(lines: "GridLines", name: str, voxel_mm: float) -> tuple[np.ndarray, dict, str]:
    """A warped grid as lines in its plane; what leaves the plane is drawn where it is seen from ahead."""
    flat = [lines.starts.copy(), lines.along.copy()]
    flat[0][:, lines.axis], flat[1][:, lines.axis] = 0, 0
    place = np.diag(
        [voxel_mm] * 3 + [1.0]
    )  # a step of the layer, which slices half a step each way
    place[lines.axis, 3] = lines.at_mm
    data = np.stack([turned(part) / voxel_mm for part in flat], axis=1)  # [n, 2, 3]
    look = {"edge_color": "#ffd24a", "edge_width": 0.12, "vector_style": "line", "opacity": 1.0}
    look |= {"name": name, "affine": turned_affine(place), "metadata": {OURS: None}}
    return data, look, "vectors"
