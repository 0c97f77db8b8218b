"""napari's reader: files and folders as layers, within moments and without torch."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vol3d.data.points import is_table
from vol3d.data.tables import read_rows
from vol3d.errors import Vol3dError
from vol3d.viewer.files import IMAGES, PLACES
from vol3d.viewer.folders import kind_of, layers_at
from vol3d.viewer.layers import LayerTuple
from vol3d.viewer.together import masks_apart

Paths = str | Sequence[str]


def get_reader(path: Paths) -> Callable[[Paths], list[LayerTuple]] | None:
    """What opens a path, or several; None where one of them is none of ours."""
    return read if all(map(is_ours, listed(path))) else None


def read(paths: Paths) -> list[LayerTuple]:
    """The layers of all paths.

    Raises:
        Vol3dError: a file is damaged, or there is nothing to show; napari shows the line.
    """
    return masks_apart([layer for path in listed(paths) for layer in layers_at(path)])


def is_ours(path: Path) -> bool:
    """Whether we know what is at a path; nothing is read but its name, or the head of a table."""
    try:
        if kind_of(path) != "file":
            return True
        if is_table(path):
            return any(set(columns) <= set(read_rows(path)[0]) for columns in PLACES)
    except Vol3dError:
        return False
    return path.name.endswith(IMAGES)


def listed(paths: Paths) -> list[Path]:
    """One path, or several."""
    return [Path(path) for path in ([paths] if isinstance(paths, str) else paths)]
