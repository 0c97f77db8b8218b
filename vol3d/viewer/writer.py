"""napari's writer: a layer as NIfTI, on the grid of the file that it came from."""

from pathlib import Path
from typing import Any

import numpy as np

from vol3d.data.points import write_points
from vol3d.errors import DataError
from vol3d.viewer.axes import turned, turned_affine, turned_array
from vol3d.viewer.layers import OURS, Original
from vol3d.viewer.straight import straight
from vol3d.volume import Volume


def write_volume(path: str, data: np.ndarray, settings: dict[str, Any]) -> list[str]:
    """Write an image or a label map; the voxels lie where they lay in the file it was made of.

    What was drawn on it is written too. Of a volume that lies oblique, drawing was on a copy along the
    world's axes: a voxel of the file takes the label that the copy has at its place where that was
    changed, else that of a changed voxel of the copy which lies in it, and keeps its own elsewhere. So
    whatever was drawn is seen where it was drawn when the file is opened again.

    Raises:
        DataError: it is no volume (2-D, or with further axes), or its axes lie askew.
    """
    volume = volume_of(np.asarray(data), settings)
    volume.write(Path(path))
    return [path]


def volume_of(data: np.ndarray, settings: dict[str, Any]) -> Volume:
    """The volume of a layer, by its data and its settings as napari tells them."""
    if data.ndim != 3:
        raise DataError(
            f"{settings.get('name')}: has {data.ndim} axes, a volume of three is due; take one frame"
        )
    original: Original | None = settings.get("metadata", {}).get(OURS)
    shown = Volume(np.ascontiguousarray(turned_array(data)), world(settings))
    if original is None or len(original.frames) != 1:
        return shown
    file = original.frames[0]
    drawn_on = straight(file, nearest=original.is_labels)
    if not drawn_on.grid.matches(shown.grid):  # moved by hand since
        return shown
    if np.array_equal(drawn_on.data, shown.data):
        return file
    is_drawn = drawn_on.data != shown.data
    changed = Volume(is_drawn.astype(np.uint8), shown.affine)
    is_changed = onto(changed, file, nearest=True).data > 0
    values = file.data.astype(data.dtype)
    voxels, drawn = voxels_under(np.argwhere(is_drawn), shown, file)
    values[voxels] = shown.data[drawn]
    values = np.where(is_changed, onto(shown, file, nearest=original.is_labels).data, values)
    return Volume(values.astype(data.dtype), file.affine, file.space_code)


Index = tuple[np.ndarray, np.ndarray, np.ndarray]


def voxels_under(index: np.ndarray, shown: Volume, file: Volume) -> tuple[Index, Index]:
    """The voxels of a file in which voxels [n, 3] of a copy lie, and these again, the nearest last."""
    to_file = np.linalg.inv(file.affine) @ shown.affine
    at = index @ to_file[:3, :3].T + to_file[:3, 3]
    voxels = np.rint(at).astype(int)
    is_inside = ((voxels >= 0) & (voxels < file.shape)).all(1)
    far = np.linalg.norm((at - voxels) * file.spacing, axis=1)
    order = np.argsort(-far)
    order = order[is_inside[order]]
    return tuple(voxels[order].T), tuple(index[order].T)


def onto(volume: Volume, file: Volume, *, nearest: bool) -> Volume:
    """A volume along the world's axes as the file has its voxels: turned, or resampled."""
    turned_back = volume.reorient(file.orientation)
    if (
        turned_back.shape == file.shape
        and turned_back.grid.apart(file.grid) < min(file.spacing) / 2
    ):
        return turned_back
    return volume.resample(file.grid, nearest=nearest)


def world(settings: dict[str, Any]) -> np.ndarray:
    """[4, 4] voxel index -> mm, RAS+, of what napari keeps in affine, scale and translate."""
    inner = np.eye(4)
    inner[:3, :3] = np.diag(settings.get("scale", np.ones(3)))
    inner[:3, 3] = settings.get("translate", np.zeros(3))
    affine = np.asarray(settings.get("affine", np.eye(4)))
    return turned_affine(affine @ inner)


def write_places(path: str, data: np.ndarray, settings: dict[str, Any]) -> list[str]:
    """Write points as a table with columns x, y, z in mm, RAS+, and what is known of each."""
    points = turned(np.asarray(data)[:, -3:]) if len(data) else np.zeros((0, 3))
    if not len(points):
        raise DataError(f"{settings.get('name')}: has no points to write")
    features = settings.get("features")
    columns = {} if features is None else {str(c): list(features[c]) for c in features}
    rows = [
        {"x": "", "y": "", "z": "", **{c: str(values[i]) for c, values in columns.items()}}
        for i in range(len(points))
    ]
    write_points(Path(path), points, rows)
    return [path]
