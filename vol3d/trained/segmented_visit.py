"""What an ensemble says of one visit, written: maps beside each other, and a sidecar with the volumes."""

import gzip
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

import vol3d
from vol3d.data.bids_writer import write_json
from vol3d.data.native_scan import NativeScan
from vol3d.data.visit import Visit
from vol3d.io.files import make_folder, whole
from vol3d.io.header import codes_of, place
from vol3d.trained.results_folder import Place, told_files
from vol3d.trained.segmentation import Segmentation, Wanted
from vol3d.trained.segmentation_folder import MAPS, label_word

STEP = 1 / 32767
"""Probabilities are stored as int16 in steps of this; 1 is the largest."""


def maps(at: Place, wanted: Wanted) -> list[Path]:
    """All that `write_visit` writes beside the sidecar."""
    others = ["majority", "staple", *["members"] * wanted.keep_members]
    return [
        at.file("dseg"),
        *(at.file("dseg", desc=desc) for desc in others),
        *(at.file("probseg", label=label_word(name)) for name in wanted.structures),
        *(at.file("probseg", desc=desc) for desc in MAPS),
    ]


def is_whole(at: Place, wanted: Wanted) -> bool:
    """Whether all that is wanted of a visit is there: a map may have been removed since."""
    return all(path.is_file() for path in (at.sidecar, *maps(at, wanted)))


def write_visit(at: Place, found: Segmentation, told: dict[str, Any]) -> None:
    """The maps of a visit, and last its sidecar: with that it is complete.

    Args:
        at: where.
        found: by the ensemble.
        told: what else the sidecar says.
    """
    make_folder(at.sidecar.parent)
    wanted, ensemble, scan = found.wanted, found.ensemble, found.scan
    labels = {"": wanted.consensus, "majority": "majority", "staple": "staple"}
    for desc, which in labels.items():
        entities = {"desc": desc} if desc else {}
        scan.write(found.label_maps[which].astype(np.int16), at.file("dseg", **entities))
    for name, p in zip(found.structures, found.mean[1:], strict=True):
        scan.write(p, at.file("probseg", label=label_word(name)), slope=STEP)
    nats = math.log(ensemble.num_labels) * STEP  # its largest value, as 1 is that of a probability
    scan.write(ensemble.entropy, at.file("probseg", desc="entropy"), slope=nats)
    information = ensemble.mutual_information
    scan.write(information, at.file("probseg", desc="mutualinformation"), slope=nats)
    scan.write(ensemble.variance.sum(0), at.file("probseg", desc="variance"), slope=STEP)
    if wanted.keep_members:
        write_series(at.file("dseg", desc="members"), ensemble.label_maps(), len(ensemble), scan)
    write_json(
        at.sidecar,
        {
            "Description": f"consensus ({wanted.consensus}) of {len(ensemble)} segmentations",
            "Manual": False,
            "SpatialReference": at.entities.get("space", "orig"),
            "Structures": wanted.structures,
            **told,
            "Volumes": found.volumes,
            "Lesions": found.lesions,
            "Vol3d": vol3d.__version__,
        },
    )


def write_series(path: Path, maps: Iterable[np.ndarray], n: int, scan: NativeScan) -> None:
    """Label maps [X, Y, Z] uint8 in RAS+ as one 4-D image, one after the other."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((*scan.header.shape, n))
    place(header, scan.header.affine, codes_of(scan.header))
    # The time stamp and the name that gzip keeps would make equal files differ.
    with (
        whole(path) as part,
        part.open("wb") as file,
        gzip.GzipFile("", "wb", 1, file, mtime=0) as packed,
    ):
        header.write_to(packed)
        for one in maps:
            packed.write(scan.turned_back(one).tobytes("F"))


def inputs(visit: Visit, contrasts: Sequence[str]) -> dict[str, dict[str, str]]:
    """The files that a visit is segmented from, by contrast, with their checksums."""
    files = {c: path for c, path in visit.images.items() if c in contrasts}
    return told_files({**files, "mask": visit.mask})
