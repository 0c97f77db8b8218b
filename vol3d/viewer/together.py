"""Several layers together: each mask in a colour of its own, and the part of the world that all take."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import cycle

import numpy as np

from vol3d.errors import ConfigError
from vol3d.report.slices import PALETTE
from vol3d.viewer.axes import turned, turned_affine
from vol3d.viewer.layers import OURS, LayerTuple, Original, colormap_of, is_scan
from vol3d.viewer.straight import world_box

ONE_COLOUR = {1: PALETTE[0]}
"""Of a mask, a map of the label 1 alone, before it has its own."""


def masks_apart(layers: Sequence[LayerTuple]) -> list[LayerTuple]:
    """The layers, each mask among them in a colour that nothing else has, while there are enough.

    Colours that a table beside the file names stay. Masks that are seen choose first.
    """
    known = {i: o for i, layer in enumerate(layers) if (o := original_of(layer))}
    masks = [i for i, original in known.items() if original.colours == ONE_COLOUR]
    taken = {c for i, o in known.items() if i not in masks for c in o.colours.values()}
    left = cycle([colour for colour in PALETTE if colour not in taken] or PALETTE)
    found = [*layers]
    for i in sorted(masks, key=lambda i: not layers[i][1].get("visible", True)):
        data, settings, kind = layers[i]
        own = {1: next(left)}
        metadata = {**settings["metadata"], OURS: replace(known[i], colours=own)}
        found[i] = data, {**settings, "metadata": metadata, "colormap": colormap_of(own)}, kind
    return found


def original_of(layer: LayerTuple) -> Original | None:
    """What a layer was made of; None of points, vectors and pictures."""
    return layer[1].get("metadata", {}).get(OURS)


def start_of(layers: Sequence[LayerTuple]) -> np.ndarray:
    """x, y, z in mm, RAS+, that slices go through at first, in a window and on a page alike.

    The middle of the box around what is above 0 in a volume: in the first scan, else in the first map; of
    those that are seen, where any is. Without a volume, the middle of points or vectors.
    """
    seen = [layer for layer in layers if layer[1].get("visible", True)] or [*layers]
    volumes = [layer for layer in seen if original_of(layer)]
    scans = [layer for layer in volumes if is_scan(layer[1])]
    if volumes:
        return middle_of((scans or volumes)[0])
    boxes = [box for layer in seen if (box := box_of(layer)) is not None]
    return boxes[0].mean(0) if boxes else np.zeros(3)


def middle_of(layer: LayerTuple) -> np.ndarray:
    """x, y, z in mm of the middle of the box around a volume's voxels above 0; of all if none is."""
    original = original_of(layer)
    there = original.frames[0].data > 0
    box = [np.flatnonzero(there.any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    ends = [
        (b[0] + b[-1]) / 2 if b.size else (n - 1) / 2 for b, n in zip(box, there.shape, strict=True)
    ]
    return (original.grid.affine @ [*ends, 1])[:3]


def check_place(layers: Iterable[LayerTuple], at: Sequence[float]) -> None:
    """Refuse, by a ConfigError, a place x, y, z in mm outside of all that layers show."""
    boxes = [box for layer in layers if (box := box_of(layer)) is not None]
    if not boxes or any((box[0] <= at).all() and (box[1] >= at).all() for box in boxes):
        return
    low, high = np.min(boxes, 0)[0], np.max(boxes, 0)[1]
    ends = [f"{axis} {a:.0f} to {b:.0f}" for axis, a, b in zip("xyz", low, high, strict=True)]
    raise ConfigError(
        f"at=[{','.join(f'{v:g}' for v in at)}]: lies outside of all that is shown, which goes from "
        f"{', '.join(ends)} mm"
    )


def box_of(layer: LayerTuple) -> np.ndarray | None:
    """[2, 3] the lowest and the highest x, y, z in mm, RAS+, of a layer; None of a picture."""
    data, settings, kind = layer
    if original := original_of(layer):
        return np.array(world_box(original.grid))
    if kind == "points" and len(data):
        places = turned(data)
    elif kind == "vectors" and len(data):
        affine = turned_affine(settings["affine"])
        places = turned(data[:, 0]) @ affine[:3, :3].T + affine[:3, 3]
    else:
        return None
    return np.array([places.min(0), places.max(0)])
