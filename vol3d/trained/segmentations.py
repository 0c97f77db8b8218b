"""Reading what `vol3d segment` wrote: consensus, probabilities, uncertainty and members of each visit."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from vol3d.data.bids_writer import read_maker
from vol3d.data.structure_volumes import check_labels
from vol3d.errors import ConfigError, DataError
from vol3d.io.header import array_of, unreadable
from vol3d.io.reading import read_json, understood
from vol3d.trained.segmentation_folder import MAKER, label_word
from vol3d.volume import Volume

SIDECAR = "_dseg.json"


@dataclass(frozen=True, eq=False)
class Segmentation:
    """One visit's, in the native space of its image.

    Attributes:
        sidecar: the JSON file with which the visit is complete.
    """

    sidecar: Path

    @cached_property
    def told(self) -> dict[str, Any]:
        """What the sidecar says."""
        return read_json(self.sidecar)

    @property
    def who(self) -> str:
        """As `Visit.who`."""
        with understood(self.sidecar):
            return str(self.told["Visit"])

    @property
    def segmenters(self) -> list[str]:
        """The checksums of the bundles."""
        with understood(self.sidecar):
            return [str(checksum) for checksum in self.told["Segmenters"]]

    @property
    def structures(self) -> list[str]:
        """Their names, in the order of their labels from 1."""
        with understood(self.sidecar):
            return [str(name) for name in self.told["Structures"]]

    @property
    def labels(self) -> dict[str, list[int | str]]:
        """That made each structure in the label maps that were learnt from; {} where it is not known."""
        with understood(self.sidecar):
            return {name: check_labels(ids) for name, ids in self.told.get("Labels", {}).items()}

    def member_ml(self, structures: list[str]) -> np.ndarray:
        """[members, structures] volumes in ml by each member."""
        with understood(self.sidecar):
            volumes = self.told["Volumes"]
            return np.array([volumes[name]["members_ml"] for name in structures], float).T

    def consensus(self) -> Volume:
        """The label map on which all figures rest."""
        return Volume.read(self.file("_dseg"))

    def mean(self, structures: list[str]) -> np.ndarray:
        """[1 + structures, X, Y, Z] mean probability; all that is left over is the first."""
        each = [
            Volume.read(self.file(f"_label-{label_word(name)}_probseg")).data for name in structures
        ]
        each = np.stack(each).astype(np.float32)
        return np.concatenate([np.clip(1 - each.sum(0, keepdims=True), 0, 1), each])

    def map(self, ending: str) -> Volume | None:
        """Another map of the visit, where it was written."""
        path = self.file(ending)
        return Volume.read(path) if path.is_file() else None

    def members(self) -> np.ndarray | None:
        """[members, X, Y, Z] label map of each, where they were kept."""
        path = self.file("_desc-members_dseg")
        if not path.is_file():
            return None
        try:
            data = array_of(nib.load(path))
        except Exception as error:  # nibabel, zlib and the OS each raise their own
            raise unreadable(path, error) from None
        if data.ndim not in (3, 4):
            raise DataError(f"{path}: label maps of members are due, [X, Y, Z, members]")
        return np.moveaxis(data.reshape(*data.shape[:3], -1), -1, 0)

    def file(self, ending: str) -> Path:
        """An image of the visit, by what follows its stem."""
        stem = self.sidecar.name.removesuffix(SIDECAR)
        return self.sidecar.with_name(f"{stem}{ending}.nii.gz")


def find_segmentations(folder: Path) -> dict[str, Segmentation]:
    """The visits that are complete, by `who`.

    Raises:
        ConfigError: no such folder, or no visit in it.
        DataError: two segmentations are of one visit.
    """
    if read_maker(folder).get("Name") != MAKER:
        raise ConfigError(f"{folder}: holds nothing that vol3d segment wrote")
    found: dict[str, Segmentation] = {}
    for sidecar in sorted(folder.glob(f"sub-*/**/anat/*{SIDECAR}")):
        one = Segmentation(sidecar)
        if one.who in found:
            raise DataError(
                f"{sidecar}: is of {one.who}, and so is {found[one.who].sidecar.name}; score folders "
                f"with one segmentation of each visit"
            )
        found[one.who] = one
    if not found:
        raise ConfigError(f"{folder}: has no visit that is complete; let vol3d segment finish it")
    return found
