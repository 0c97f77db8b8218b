"""What we have as napari layers: tuples (data, settings, type), for which neither napari nor torch loads.

Layers lie in the world, in mm, RAS+ (napari's axes are Z, Y, X; see `axes`), along its axes (see
`straight`), so any two of them line up, in 2-D and in 3-D. What a layer was made of is in its
`metadata["vol3d"]`, an `Original`: values under the cursor and what is written come from there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vol3d.report.slices import PALETTE
from vol3d.viewer.axes import turned, turned_affine, turned_array
from vol3d.viewer.straight import lattice, straight
from vol3d.volume import Grid, Volume

LayerTuple = tuple[np.ndarray, dict[str, Any], str]
OURS = "vol3d"
"""The key of a layer's metadata."""
PERCENTILE = 99.5
"""Of the voxels above 0: what is white."""
OTHER = "#bbbbbb"
"""Of labels without a colour."""
LARGEST = 10_000
"""Label that a table of colours has."""
VECTORS_ALONG = 24
"""So many vectors are shown along the longest axis of a field, if nobody says otherwise."""


@dataclass(frozen=True, eq=False)
class Original:
    """What a layer was made of.

    Attributes:
        frames: one volume; or several on one grid, such as the members of an ensemble.
        is_labels: values are labels.
        names: of labels.
        colours: of labels.
        unit: of values, such as nats.
        path: of the file.
    """

    frames: Sequence[Volume]
    is_labels: bool = False
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    unit: str = ""
    path: Path | None = None

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return self.frames[0].grid


def image_layer(
    volume: Volume | Sequence[Volume],
    name: str,
    *,
    limits: tuple[float, float] | None = None,
    unit: str = "",
    path: Path | None = None,
    **settings: Any,
) -> LayerTuple:
    """An image; several volumes on one grid make a slider.

    Args:
        volume: in any orientation.
        name: of the layer.
        limits: values shown as black and white; without them `limits_of` the volume.
        unit: of values.
        path: of the file.
        settings: further ones of napari's image layer.
    """
    original = Original(frames_of(volume), unit=unit, path=path)
    limits = limits or limits_of(original.frames[0])
    look = {"colormap": "gray", "contrast_limits": limits, "interpolation2d": "nearest"}
    look |= {"rendering": "attenuated_mip", "attenuation": 0.3, **settings}  # of 3-D
    return placed(original, name, look)


def is_scan(settings: Mapping[str, Any]) -> bool:
    """Whether a layer is an image in grey, by its settings; maps and label maps lie over those."""
    colormap = settings.get("colormap")
    return isinstance(colormap, str) and colormap == "gray"


def probability_layer(
    volume: Volume | Sequence[Volume],
    name: str,
    *,
    limits: tuple[float, float] = (0.0, 1.0),
    unit: str = "",
    path: Path | None = None,
    **settings: Any,
) -> LayerTuple:
    """A map from 0 up, such as a probability or an uncertainty, over the images below it; 0 is clear.

    Args: as of `image_layer`.
    """
    look = {"colormap": "inferno", "blending": "additive", "opacity": 0.8, **settings}
    return image_layer(volume, name, limits=limits, unit=unit, path=path, **look)


def labels_layer(
    volume: Volume | Sequence[Volume],
    name: str,
    *,
    names: Mapping[int, str] | None = None,
    colours: Mapping[int, str] | None = None,
    path: Path | None = None,
    **settings: Any,
) -> LayerTuple:
    """A label map or a mask; 0 is clear.

    Args:
        volume: whole numbers.
        name: of the layer.
        names: of labels.
        colours: of labels, such as #ff0000; of those that have a name alone, ours.
        path: of the file.
        settings: further ones of napari's labels layer.
    """
    whole = [Volume(as_labels(v.data), v.affine, v.space_code) for v in frames_of(volume)]
    look: dict[str, Any] = {"opacity": 0.4, **settings}
    if names:
        look["features"] = features_of(names)
    ours = {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(filter(None, names or {}))}
    if every := {**ours, **(colours or {})}:
        look["colormap"] = colormap_of(every)
    original = Original(whole, True, names or {}, every, path=path)
    return placed(original, name, look)


def points_layer(
    points: np.ndarray,
    name: str,
    *,
    size_mm: float = 4.0,
    features: Mapping[str, Sequence[Any]] | None = None,
    **settings: Any,
) -> LayerTuple:
    """Points, such as landmarks or the centres of lesions.

    Args:
        points: [n, 3] mm, RAS+.
        name: of the layer.
        size_mm: their diameter.
        features: columns of what is known of each, shown under the cursor.
        settings: further ones of napari's points layer.
    """
    look = {"size": size_mm, "projection_mode": "rescale_spherical", "face_color": "transparent"}
    look |= {"border_color": "yellow", "border_width": 0.15}
    look |= {"name": name, "features": dict(features or {}), "metadata": {OURS: None}}
    return np.array(turned(points), float).reshape(-1, 3), {**look, **settings}, "points"


def field_layer(
    u: np.ndarray,
    grid: Grid,
    name: str,
    *,
    step_mm: float | None = None,
    least_mm: float = 0.05,
    **settings: Any,
) -> LayerTuple:
    """A displacement field as vectors from x to x + u(x), on a lattice along the world's axes.

    Args:
        u: [3, X, Y, Z] in world mm, RAS+.
        grid: on which it lies.
        name: of the layer.
        step_mm: between vectors; without it `VECTORS_ALONG` of them along the longest axis.
        least_mm: shorter ones are left out.
        settings: further ones of napari's vectors layer.
    """
    extent = max(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
    nodes = lattice(grid, step_mm or extent / VECTORS_ALONG)
    index = np.stack(np.meshgrid(*map(np.arange, nodes.shape), indexing="ij"), -1).reshape(-1, 3)
    vectors, is_inside = sampled(u, grid, nodes.affine[:3, :3] @ index.T + nodes.origin[:, None])
    length = np.linalg.norm(vectors, axis=0)
    shown = is_inside & (length >= least_mm)
    along = vectors.T[shown] / nodes.spacing  # in steps, as the positions are
    data = np.stack([turned(index[shown].astype(float)), turned(along)], axis=1)  # [n, 2, 3]
    look = {"features": {"mm": length[shown]}, "edge_color": "mm", "edge_colormap": "turbo"}
    look |= {"edge_width": 0.12, "vector_style": "arrow", "opacity": 1.0}
    look |= {"name": name, "affine": turned_affine(nodes.affine), "metadata": {OURS: None}}
    return data, {**look, **settings}, "vectors"


def replaced(layer: Any, volume: Volume, frame: int = 0) -> None:
    """Show another volume in an image or labels layer that is there, such as the next sample.

    Args:
        layer: of napari, made from one of these tuples.
        volume: on any grid; in a layer of several frames on theirs.
        frame: which of several.
    """
    before: Original = layer.metadata[OURS]
    if before.is_labels:
        volume = Volume(as_labels(volume.data), volume.affine, volume.space_code)
    frames = [*before.frames]
    frames[frame] = volume
    after = replace(before, frames=frames)
    if len(frames) > 1:
        layer.data[frame] = turned_array(straight(volume, nearest=before.is_labels).data)
        layer.refresh()
    else:
        data, settings, _ = placed(after, layer.name, {})
        layer.data = data
        layer.affine = settings["affine"]
    layer.metadata = {**layer.metadata, OURS: after}


# -- helpers --------------------------------------------------------------------------------------


def placed(original: Original, name: str, look: dict[str, Any]) -> LayerTuple:
    """The layer of volumes, where they lie."""
    shown = [straight(frame, nearest=original.is_labels) for frame in original.frames]
    affine = turned_affine(shown[0].affine)
    arrays = [turned_array(s.data) for s in shown]
    if len(arrays) > 1:  # the frames' axis comes first, and counts them
        affine = np.block([[np.eye(1), np.zeros((1, 4))], [np.zeros((4, 1)), affine]])
    data = np.stack(arrays) if len(arrays) > 1 else arrays[0]
    settings = {"name": name, "affine": affine, "metadata": {OURS: original}, **look}
    return data, settings, "labels" if original.is_labels else "image"


def frames_of(volume: Volume | Sequence[Volume]) -> Sequence[Volume]:
    """Volumes on one grid."""
    return [volume] if isinstance(volume, Volume) else volume


def limits_of(volume: Volume) -> tuple[float, float]:
    """Values to show as black and white: 0, or the lowest, up to the 99.5th percentile of those above 0.

    That is the scale on which networks see images (`data.network_images`), so that of two brains shown
    side by side neither looks brighter because its scanner counts otherwise.
    """
    some = volume.data[::2, ::2, ::2]
    low, lit = min(float(some.min()), 0.0), some[some > 0]
    high = float(np.percentile(lit, PERCENTILE)) if lit.size else 0.0
    return (low, high) if high > low else (low, low + 1)


def as_labels(data: np.ndarray) -> np.ndarray:
    """Whole numbers of a kind that napari takes; a copy, on which one may draw."""
    if data.dtype.kind in "ui":
        return data.astype(data.dtype.newbyteorder("="))
    return data.astype(np.uint8) if data.dtype == bool else np.rint(data).astype(np.int32)


def colormap_of(colours: Mapping[int, str]) -> np.ndarray | dict[int | None, str]:
    """Colours as napari takes them: a table, since for a mapping it compiles code, for seconds."""
    from matplotlib.colors import to_rgba

    if min(colours) < 0 or max(colours) > LARGEST:
        return {None: OTHER, 0: "transparent", **colours}
    rows = [to_rgba(colours.get(label, OTHER)) for label in range(max(colours) + 1)]
    return np.array([(0, 0, 0, 0), *rows[1:]], np.float32)


def features_of(names: Mapping[int, str]) -> dict[str, list[Any]]:
    """A table that napari looks labels up in, to name the one under the cursor."""
    every = {0: "background", **names}
    return {"index": list(every), "name": list(every.values())}


def sampled(u: np.ndarray, grid: Grid, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A field at points [3, n] in mm: vectors [3, n] in mm, and which points are inside."""
    from scipy.ndimage import map_coordinates

    inverse = np.linalg.inv(grid.affine)
    at = inverse[:3, :3] @ points + inverse[:3, 3:]
    last = np.array(grid.shape)[:, None] - 1
    is_inside = ((at >= -0.5) & (at <= last + 0.5)).all(0)
    vectors = np.stack([map_coordinates(ui, at, order=1, mode="nearest") for ui in u])
    return vectors, is_inside
