"""Transforms as files: ITK's (.h5, .mat, .txt, .tfm), and displacement fields (.nii.gz).

Their names are BIDS's: sub-01_from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.h5 moves an image of T1w onto
the template, so it sends points of the template to points of T1w.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from vol3d.errors import ConfigError, DataError
from vol3d.io.files import whole
from vol3d.io.reading import naming, read_text
from vol3d.transforms.field_file import read_field, write_field
from vol3d.transforms.transform import chain, field, field_of, inverse, parts

FIELDS = (".nii", ".nii.gz")
TEXTS = (".txt", ".tfm")
ANYTHING = (".h5", ".hdf5")
ITKS = (".mat", *TEXTS, *ANYTHING)


def read_transform(path: Path) -> sitk.Transform:
    """Read a transform: from points of the fixed volume to points of the moving one, mm, LPS+.

    Raises:
        DataError: no such file; it is none, not of three dimensions, several, or has NaN in it.
    """
    if path.name.endswith(FIELDS):
        return field(*read_field(path))
    if not path.is_file():
        raise DataError(f"{path}: no such transform")
    if path.suffix in TEXTS:
        check_one(path)
    try:
        transform = sitk.ReadTransform(path)
    except RuntimeError:
        raise DataError(
            f"{path}: cannot be read as an ITK transform; convert those of other programs, for example "
            f"with c3d_affine_tool -oitk (FSL) or lta_convert --outitk (FreeSurfer)"
        ) from None
    if transform.GetDimension() != 3:
        raise DataError(
            f"{path}: is a transform of {transform.GetDimension()} dimensions, three are due"
        )
    if not all(np.isfinite(numbers_of(part)).all() for part in parts(transform)):
        raise DataError(f"{path}: has numbers in it that are NaN or infinite; make it anew")
    return transform


def numbers_of(part: sitk.Transform) -> np.ndarray:
    """All that a transform is made of, in a row."""
    if part.GetName() == "DisplacementFieldTransform":  # millions of them
        u, grid = field_of(sitk.DisplacementFieldTransform(part))
        return np.append(u, grid.affine)
    return np.array([*part.GetFixedParameters(), *part.GetParameters()])


def check_one(path: Path) -> None:
    """A text file holds one transform, or one chain of them; ITK would take the first of a list.

    Raises:
        DataError: it holds a list.
    """
    words = [
        line.split()[1] for line in read_text(path).splitlines() if line.startswith("Transform:")
    ]
    chains = sum(word.startswith("Composite") for word in words)
    if chains > 1 or (not chains and len(words) > 1):
        raise DataError(
            f"{path}: holds a list of {chains or len(words)} transforms, such as one per frame of a "
            f"series; write the one that is meant to a file of its own"
        )


def read_chain(paths: Sequence[Path], inverted: Sequence[bool]) -> sitk.CompositeTransform:
    """Read transforms that are one chain: a point goes through the first, then the second, and so on.

    Args:
        paths: the files.
        inverted: for each, whether its inverse takes its place.

    Raises:
        DataError: one cannot be read or inverted.
    """
    read = []
    for path, is_inverted in zip(paths, inverted, strict=True):
        transform = read_transform(path)
        with naming(path):
            read.append(inverse(transform) if is_inverted else transform)
    return chain(read)


def write_transform(path: Path, transform: sitk.Transform) -> None:
    """Write a transform, whole or not at all; the ending of the name says how.

    Args:
        path: .nii.gz for one displacement field, .h5 for anything, .mat, .txt or .tfm for what is linear.
        transform: from points of the fixed volume to points of the moving one, mm, LPS+.

    Raises:
        ConfigError: the ending is another, or does not do for such a transform.
    """
    every = parts(transform)
    if path.name.endswith(FIELDS):
        if [part.GetName() for part in every] != ["DisplacementFieldTransform"]:
            raise ConfigError(f"{path}: holds one displacement field; a chain goes to a file .h5")
        return write_field(path, *field_of(sitk.DisplacementFieldTransform(every[0])))
    if path.suffix not in ITKS:
        raise ConfigError(
            f"{path}: the name of a transform ends in .h5, .mat, .txt, .tfm or .nii.gz"
        )
    if path.suffix not in ANYTHING and not transform.IsLinear():
        raise ConfigError(f"{path}: holds what is linear alone; fields and chains go to a file .h5")
    if path.suffix == ".mat" and len(every) > 1:  # ITK would write it, and not read it
        raise ConfigError(f"{path}: holds one transform; a chain goes to a file .h5")
    with whole(path) as part:
        sitk.WriteTransform(every[0] if len(every) == 1 else transform, part)
    return None
