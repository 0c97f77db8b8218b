"""The transforms of prepared scans: where they go, and JSON beside each for what it ties together."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from vol3d.data.bids_writer import MNI_SPACE, bids_name, write_json
from vol3d.errors import DataError
from vol3d.io.files import make_folder
from vol3d.io.reading import read_json, understood
from vol3d.transforms.transform_file import write_transform
from vol3d.volume import Grid


def transform_path(folder: Path, scan: str, suffix: str) -> Path:
    """Where the transform of a scan goes: in sourcedata, as BIDS has no name for it yet."""
    name = bids_name({"from": suffix, "to": MNI_SPACE, "mode": "image"}, "xfm", scan)
    return folder.joinpath("sourcedata", *scan.split("_"), f"{name}.txt")


def keep_transform(path: Path, transform: sitk.Transform, native: Grid, source: str) -> None:
    """Write the transform, whole or not at all, and beside it the raw scan's grid."""
    make_folder(path.parent)
    write_transform(path, transform)
    content = {
        "Description": "ITK transform; as ITK and ANTs apply it, it moves an image of the scan "
        "onto the template: it maps points of the template to points of the scan, mm, LPS+",
        "Source": source,
        "NativeShape": list(native.shape),
        "NativeAffine": native.affine.tolist(),
    }
    write_json(path.with_suffix(".json"), content)


def read_native_grid(path: Path) -> Grid:
    """The grid of the raw scan, which stands beside the transform; else a DataError."""
    told = path.with_suffix(".json")
    try:
        with understood(told):
            said = read_json(told)
            return Grid(tuple(said["NativeShape"]), np.array(said["NativeAffine"]))
    except DataError as error:
        raise DataError(f"{error}; or name the raw scan with native=FILE") from None
