"""People with a box in their heads, and segmentations of them whose scores are known."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vol3d.data.bids_writer import anat_path
from vol3d.data.native_scan import NativeScan
from vol3d.data.visit import Visit
from vol3d.metrics.ensemble import Ensemble
from vol3d.trained.results_folder import Place
from vol3d.trained.segmentation import Segmentation, Wanted
from vol3d.trained.segmentation_folder import claim, describe
from vol3d.trained.segmented_visit import write_visit
from vol3d.volume import Volume

SHAPE = (12, 10, 8)
AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])  # LAS: not the order in which networks see it
VOXEL_ML = 0.008
STRUCTURE = "box_ml"


def box(*sizes: int) -> np.ndarray:
    """1 in a box of so many voxels from (2, 2, 2) on, in the order of the file."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[tuple(slice(2, 2 + n) for n in sizes)] = 1
    return labels


def person(data: Path, name: str, truths: Mapping[str, np.ndarray]) -> Visit:
    """An image, and a label map for each `desc`."""
    image = anat_path(data, name, {}, "T1w")
    brightness = 100 + 50 * next(iter(truths.values()))
    Volume(brightness.astype(np.int16), AFFINE).write(image)
    for desc, labels in truths.items():
        Volume(labels, AFFINE).write(anat_path(data, name, {"desc": desc}, "dseg"))
    return Visit(name.removeprefix("sub-"), None, {"T1w": image}, {}, "val")


def segmentation(
    out: Path,
    visit: Visit,
    members: Sequence[np.ndarray],
    lesions: Sequence[str] = (),
    **told: object,
) -> None:
    """What `vol3d segment` would write of members [X, Y, Z]: probabilities of the box."""
    claim(out, {"segmenters": ["abc"], "samplers": [None]}, any_precision=False)
    describe(out, [STRUCTURE])
    scan = NativeScan.read(visit, ["T1w"])
    ensemble = Ensemble(2, scan.grid.shape)
    for p in members:
        turned = Volume(p.astype(np.float32), AFFINE).reorient("RAS").data
        ensemble.add(np.stack([1 - turned, turned]))
    wanted = Wanted([STRUCTURE], lesions=[*lesions], keep_members=True)
    about = {"Visit": visit.who, "Segmenters": ["abc"], "Samplers": [None], **told}
    write_visit(Place.of(out, visit), Segmentation(scan, ensemble, wanted), about)
