"""Slices to scroll through in three planes, in a page: voxels as pictures, and a script to read them.

A layer's voxels are one PNG, a byte each, of all axial slices side by side: lossless, so that the value
under the cursor is the voxel's to 1 in 255 of the range, and it needs no server.
"""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vol3d.errors import DataError
from vol3d.io.text import as_html
from vol3d.volume import Grid, Volume

SCRIPT = Path(__file__).with_name("slices.js")
STYLE = """
figure.slices { background: #000; color: #ddd; padding: .8rem; border-radius: .4rem; }
figure.slices .planes { display: flex; flex-wrap: wrap; gap: .6rem; align-items: flex-end; }
figure.slices canvas { display: block; max-width: 100%; cursor: crosshair; touch-action: none; }
figure.slices .planes > div { max-width: 100%; } figure.slices .through { width: 100%; }
figure.slices .told { min-height: 3em; font-variant-numeric: tabular-nums; }
figure.slices label { margin-right: 1rem; } figure.slices figcaption { color: #aaa; }
"""
SCALE = 1.2
"""The brightest value that is told apart is so many times the one shown as white."""
PALETTE = [
    *("#ee6677", "#4477aa", "#228833", "#ccbb44", "#66ccee", "#aa3377"),
    *("#ff8c42", "#88ccaa", "#b57edc", "#e377c2", "#bcbd22", "#17becf"),
]
WIDTH = 1100
"""Pixels that the three planes take beside each other, about."""


@dataclass(frozen=True, eq=False)
class Scan:
    """An image below overlays.

    Attributes:
        name: as it is shown.
        volume: in RAS+, along the world's axes; each voxel is the file's nearest, or 0 outside of it.
        file: the grid of the file, whose voxels are told.
        limits: what is black and white.
        unit: of values.
    """

    name: str
    volume: Volume
    file: Grid
    limits: tuple[float, float]
    unit: str = ""


@dataclass(frozen=True, eq=False)
class Overlay:
    """A label map, or a map from 0 up, on the same grid.

    Attributes:
        name: as it is shown.
        volume: on the grid of the scans; see there.
        file: likewise.
        names: of labels; None: values are numbers.
        colours: of labels, such as #ff0000.
        limits: of numbers.
        unit: of numbers.
        seen: at first.
    """

    name: str
    volume: Volume
    file: Grid
    names: Mapping[int, str] | None = None
    colours: Mapping[int, str] = field(default_factory=dict)
    limits: tuple[float, float] = (0.0, 1.0)
    unit: str = ""
    seen: bool = True


@dataclass(frozen=True, eq=False)
class Slices:
    """What is scrolled through together.

    Attributes:
        caption: below.
        scans: of which one is shown at a time.
        overlays: over it.
        start: the voxel, X, Y, Z of the shown grid, through which slices go at first.
    """

    caption: str
    scans: Sequence[Scan]
    overlays: Sequence[Overlay]
    start: tuple[int, int, int]


def html_of_slices(shown: Slices) -> str:
    """The figure; the page needs `STYLE` and, once and below it, `SCRIPT`."""
    grid = (shown.scans[0] if shown.scans else shown.overlays[0]).volume.grid
    columns = math.ceil(math.sqrt(grid.shape[2] * grid.shape[1] / grid.shape[0]))
    extent = [n * s for n, s in zip(grid.shape, grid.spacing, strict=True)]
    told: dict[str, Any] = {
        "shape": grid.shape,
        "spacing": grid.spacing,
        "origin": grid.origin.tolist(),
        "columns": columns,
        "start": shown.start,
        "zoom": WIDTH / (2 * extent[0] + extent[1]),
        "images": [as_scan(scan, columns) for scan in shown.scans],
        "overlays": [as_overlay(overlay, columns, i) for i, overlay in enumerate(shown.overlays)],
    }
    # In a script, "<" could end it.
    data = json.dumps(told).replace("<", "\\u003c")
    planes = "".join(
        f'<div><canvas aria-label="{name}"></canvas>'
        f'<input class="through" type="range" min="0" step="1" aria-label="{name} slice"></div>'
        for name in ("axial", "coronal", "sagittal")
    )
    caption = as_html(shown.caption)
    return (
        f'<figure class="slices">\n<div class="planes">{planes}</div>\n<p class="told">'
        f"</p>\n<p>{controls(shown)}</p>\n<figcaption>{caption}</figcaption>\n"
        f"<noscript>This figure is drawn by a script, which this browser does not run.</noscript>\n"
        f'<script type="application/json">{data}</script>\n</figure>'
    )


def controls(shown: Slices) -> str:
    """What to choose: the scan, overlays, how strongly they are drawn."""
    parts = []
    if len(shown.scans) > 1:
        options = "".join(
            f'<option value="{i}">{as_html(s.name)}</option>' for i, s in enumerate(shown.scans)
        )
        parts.append(f"<label>image <select>{options}</select></label>")
    for overlay in shown.overlays:
        checked = " checked" * overlay.seen
        parts.append(f'<label><input type="checkbox"{checked}> {as_html(overlay.name)}</label>')
    if shown.overlays:
        parts.append(
            '<label>opacity <input class="opacity" type="range" min="0" max="1" step="0.05" '
            'value="0.5"></label>'
        )
    return "\n".join(parts)


def as_scan(scan: Scan, columns: int) -> dict[str, Any]:
    """An image as the script reads it: a byte a voxel, from black to a little above white."""
    low, white = scan.limits
    high = low + SCALE * (white - low)
    data = scan.volume.data
    return {
        "name": scan.name,
        **as_file(scan.file),
        "uri": mosaic(as_bytes(data, low, high), columns),
        "low": low,
        "high": high,
        "white": 255 / SCALE,
        "is_cut": bool(data.max() > high),
        "unit": scan.unit,
    }


def as_file(grid: Grid) -> dict[str, Any]:
    """A file's grid as the script reads it: from mm to the voxel that is nearest."""
    return {"to_voxel": np.linalg.inv(grid.affine)[:3].tolist(), "file_shape": grid.shape}


def as_overlay(overlay: Overlay, columns: int, number: int) -> dict[str, Any]:
    """An overlay as the script reads it; label maps as the rank of each label.

    Raises:
        DataError: there are more labels than a byte can hold.
    """
    told = {"name": overlay.name, "unit": overlay.unit, "seen_first": overlay.seen}
    told |= as_file(overlay.file)
    if overlay.names is None:
        low, high = overlay.limits
        colour = rgb(PALETTE[number % len(PALETTE)])
        return {
            **told,
            "is_labels": False,
            "uri": mosaic(as_bytes(overlay.volume.data, low, high), columns),
            "low": low,
            "high": high,
            "is_cut": bool(overlay.volume.data.max() > high),
            "colours": [colour, colour],
        }
    labels = [0, *(int(i) for i in np.unique(overlay.volume.data) if i)]
    if len(labels) > 256:
        raise DataError(
            f"{overlay.name}: has {len(labels) - 1} labels, a page shows 255 at most; open it in napari"
        )
    ranks = np.searchsorted(labels, overlay.volume.data).astype(np.uint8)
    if labels != sorted(labels):  # with negative ones 0 is not the lowest
        order = np.argsort(labels)
        ranks = order[np.searchsorted(np.sort(labels), overlay.volume.data)].astype(np.uint8)
    chosen = [
        overlay.colours.get(label, PALETTE[(rank + number - 1) % len(PALETTE)])
        for rank, label in enumerate(labels)
    ]
    return {
        **told,
        "is_labels": True,
        "uri": mosaic(ranks, columns),
        "names": [f"{overlay.names.get(i, '')} ({i})".strip() for i in labels],
        "colours": [rgb(colour) for colour in chosen],
    }


def as_bytes(data: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values as whole numbers from 0, the lowest, to 255."""
    return np.rint(np.clip((data - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def mosaic(voxels: np.ndarray, columns: int) -> str:
    """Bytes [X, Y, Z] as a PNG in a URI: axial slices in rows of so many, each with rows Y."""
    from PIL import Image  # matplotlib brings it

    x, y, z = voxels.shape
    rows = -(-z // columns)
    tiles = np.zeros((rows * columns, y, x), np.uint8)
    tiles[:z] = voxels.transpose(2, 1, 0)
    sheet = tiles.reshape(rows, columns, y, x).transpose(0, 2, 1, 3).reshape(rows * y, columns * x)
    with io.BytesIO() as file:
        Image.fromarray(np.ascontiguousarray(sheet)).save(file, "PNG", compress_level=9)
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def rgb(colour: str) -> list[int]:
    """#rrggbb, or a name that matplotlib knows, as three bytes."""
    from matplotlib.colors import to_rgb

    return [round(255 * c) for c in to_rgb(colour)]
