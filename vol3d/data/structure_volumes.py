"""Volumes of structures in ml, measured from a label map."""

from typing import Annotated

import numpy as np
import torch
from pydantic import AfterValidator, BeforeValidator
from torch import Tensor

from vol3d.config import several
from vol3d.volume import Volume


def label_ids(labels: list[int | str]) -> list[int]:
    """The labels of a structure, with ranges written out: [4, "10-12"] is [4, 10, 11, 12]."""
    ids: list[int] = []
    for label in labels:
        first, _, last = str(label).partition("-")
        ids += range(int(first), int(last or first) + 1)
    return ids


def check_labels(labels: list[int | str]) -> list[int | str]:
    """Refuse what is neither a label nor a range of labels."""
    try:
        if label_ids(labels):
            return labels
    except ValueError:
        pass
    raise ValueError(f"labels are numbers or ranges such as 10-12, got {labels}")


def structure_map(labels: Tensor, structures: dict[str, list[int | str]]) -> Tensor:
    """A data set's labels as places in a list of structures: 0 none, i + 1 the i-th; int32."""
    out = torch.zeros_like(labels, dtype=torch.int32)
    for i, ids in enumerate(structures.values(), start=1):
        out = out.masked_fill(torch.isin(labels, torch.tensor(label_ids(ids))), i)
    return out


def check_disjoint(structures: dict[str, list[int | str]]) -> None:
    """A voxel is in one structure at most.

    Raises:
        ValueError: a label is in two.
    """
    seen: dict[int, str] = {}
    for name, labels in structures.items():
        for label in label_ids(labels):
            if label in seen:
                raise ValueError(
                    f"structures: label {label} is in {seen[label]} and in {name}; null takes away a "
                    f"structure of the config beneath: structures.{seen[label]}=null"
                )
            seen[label] = name


Labels = Annotated[list[int | str], BeforeValidator(several), AfterValidator(check_labels)]
"""The labels of a structure, as a config names them."""


def measure_volumes(label_map: Volume, structures: dict[str, list[int | str]]) -> dict[str, float]:
    """Ml of each structure, whose labels are given: its voxels, times the volume of one."""
    labels, counts = np.unique(label_map.data, return_counts=True)
    voxel_ml = label_map.grid.voxel_ml
    return {
        name: float(counts[np.isin(labels, label_ids(ids))].sum() * voxel_ml)
        for name, ids in structures.items()
    }
