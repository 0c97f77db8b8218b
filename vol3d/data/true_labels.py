"""The label maps that count as true, of one or several raters, on the grid of what they judge."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from vol3d.data.dataset import Dataset
from vol3d.data.label_map import whole_labels
from vol3d.data.structure_volumes import structure_map
from vol3d.data.tables import few
from vol3d.data.visit import MAIN_LABELS, Visit
from vol3d.errors import ConfigError, DataError
from vol3d.volume import Grid, Volume

SAME_MM = 0.01


class TrueLabels:
    """Label maps of a source.

    Args:
        source: a config of the menu in `data/datasets`.
        of: the label maps, by name; if none are named those of no rater, or else all.
        split: only people of this part.

    Attributes:
        visits: those with at least one of the label maps, by `who`.
        raters: the names of the label maps.
        in_all: how many visits there are, with and without.

    Raises:
        ConfigError: nobody has a label map, or one that is named.
    """

    def __init__(self, source: Dataset, of: Sequence[str] = (), split: str | None = None) -> None:
        visits = {v.who: v for v in source.chosen() if split in (None, v.split)}
        there = list(dict.fromkeys(name for v in visits.values() for name in v.labels))
        part = f" in the split {split}" if split else ""
        if missing := [name for name in of if name not in there]:
            raise ConfigError(
                f"of={','.join(missing)}: no visit{part} has such a label map; there are "
                f"{', '.join(there) or 'none'}"
            )
        if not there:
            raise ConfigError(
                f"{source.path}: nobody has a label map{part}; say where they are, for example with "
                f"data.labels_entities.desc=seg"
            )
        self.raters = list(of) or ([MAIN_LABELS] if MAIN_LABELS in there else there)
        self.visits = {who: v for who, v in visits.items() if {*v.labels} & {*self.raters}}
        self.in_all = len(visits)

    def read(
        self, visit: Visit, grid: Grid, structures: Mapping[str, list[int | str]]
    ) -> list[np.ndarray]:
        """[X, Y, Z] places in the list of structures, by each rater of a visit.

        Args:
            visit: one of `visits`.
            grid: where they are wanted; axes may point elsewhere, voxels may not lie elsewhere.
            structures: the labels that make each.

        Raises:
            DataError: a map lies elsewhere, or holds values that are no labels.
        """
        found = []
        for name in self.raters:
            if name not in visit.labels:
                continue
            path = visit.labels[name]
            volume = Volume.read(path, visit.form).reorient(grid.orientation)
            if not volume.grid.matches(grid, SAME_MM):
                raise DataError(
                    f"{path}: lies on a grid of {volume.grid}, what it is to judge on {grid} (or "
                    f"elsewhere in the world); a label map is due on the grid of the image"
                )
            labels = torch.from_numpy(whole_labels(volume, path).data)
            found.append(structure_map(labels, dict(structures)).numpy())
        return found


def labels_meant(
    asked: Mapping[str, list[int | str]], found: Sequence[str], told_by: object
) -> dict[str, list[int | str]]:
    """The labels that make each structure in the maps that are true.

    Args:
        asked: as a setting says it; of structures that are all found.
        found: the structures that a segmenter finds.
        told_by: who names these, for errors.

    Raises:
        ConfigError: nothing says which labels they are, or one is named that is not found.
    """
    if missing := [name for name in asked if name not in found]:
        raise ConfigError(
            f"structures: {few(missing)} is not found by {told_by}; it has {', '.join(found)}"
        )
    if asked:
        return dict(asked)
    numbered = [re.fullmatch(r"label(\d+)", name) for name in found]
    if all(numbered):  # what a model that was told no structures calls them
        return {m.group(): [int(m.group(1))] for m in numbered}
    example = ", ".join(f"{name}: [{i}]" for i, name in enumerate(found, 1))
    raise ConfigError(
        f"structures: say which labels of the maps make each, as in the training: "
        f"'structures={{{example}}}'"
    )
