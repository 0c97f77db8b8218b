"""napari's reader: files and folders as layers, within moments and without torch."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vol3d.data.bids_writer import holds_labels
from vol3d.viewer.layers import LayerTuple, image_layer, labels_layer
from vol3d.volume import Volume

Paths = str | Sequence[str]


def get_reader(paths: Paths) -> Callable[[Paths], list[LayerTuple]] | None:
    """What opens the paths; None where none of them is ours."""
    return read


def read(paths: Paths) -> list[LayerTuple]:
    """The layers of all paths."""
    some = [paths] if isinstance(paths, str) else paths
    return [layer for path in some for layer in layers_at(Path(path))]


def layers_at(path: Path) -> list[LayerTuple]:
    """The layers of what is at a path."""
    volume, name = Volume.read(path), path.name.removesuffix(".gz").removesuffix(".nii")
    make = labels_layer if holds_labels(path) else image_layer
    return [make(volume, name, path=path)]
