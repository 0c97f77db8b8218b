"""What is due of a label map before anything is learnt from it, or judged by it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vol3d.data.structure_volumes import label_ids
from vol3d.data.visit import Visit
from vol3d.errors import DataError
from vol3d.io.header import read_header
from vol3d.io.text import brief
from vol3d.volume import Volume

WHOLE = 1e-3
"""How far a label may be from a whole number."""


def whole_labels(volume: Volume, path: Path) -> Volume:
    """A label map with its labels as int32.

    Raises:
        DataError: it holds values that are no labels.
    """
    labels = volume.data
    if labels.dtype.kind == "f":
        labels = np.rint(labels)
        if (off := float(np.abs(volume.data - labels).max())) > WHOLE:
            raise DataError(
                f"{path}: holds values that are {off:.2g} off a whole number; a label map is due"
            )
    return replace(volume, data=labels.astype(np.int32))


def check_found(
    structures: Mapping[str, list[int | str]],
    maps: Sequence[str],
    visits: Sequence[Visit],
    key: str,
) -> None:
    """Each structure is in some label map to learn from; maps are read until all were found.

    Args:
        structures: the labels that make each.
        maps: names of the label maps.
        visits: of whom those of the split train count.
        key: the setting that names the structures.

    Raises:
        DataError: no label map has any of a structure's labels.
    """
    paths = {
        v.labels[n]: v.form for v in visits if v.split == "train" for n in maps if n in v.labels
    }
    missing, first = {name: {*label_ids(ids)} for name, ids in structures.items()}, set()
    for path, form in paths.items():
        if not missing:
            return
        there = {*np.unique(whole_labels(Volume.of(read_header(path, form)), path).data).tolist()}
        missing = {name: ids for name, ids in missing.items() if not ids & there}
        first = first or there
    if paths and missing:
        lacks = ", ".join(f"{name} {structures[name]}" for name in missing)
        raise DataError(
            f"{key}: none of the {len(paths)} label maps to learn from has any of the labels of {lacks}; "
            f"the first, {next(iter(paths))}, has {brief(sorted(first))}"
        )
