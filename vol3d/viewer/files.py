"""One file as layers: what its name and its header say it is, with the names of its labels."""

from pathlib import Path

import numpy as np

from vol3d.data.bids_writer import DESCRIPTION, holds_labels, parse_entities
from vol3d.data.points import is_table
from vol3d.data.tables import MISSING, read_rows
from vol3d.errors import DataError
from vol3d.io.header import (
    array_of,
    check_size,
    check_values,
    opened,
    placement,
    read_header,
    unreadable,
)
from vol3d.transforms.field_file import DISPLACEMENT, VECTOR, read_field
from vol3d.viewer.layers import (
    LayerTuple,
    field_layer,
    image_layer,
    labels_layer,
    points_layer,
    probability_layer,
)
from vol3d.volume import Volume

IMAGES = (".nii", ".nii.gz", ".mgz", ".mgh")
PLACES = (("x", "y", "z"), ("x_mm", "y_mm", "z_mm"))
"""Columns of tables of points, in mm, RAS+: our own tables' and those of lesions.tsv."""
NATS = ("entropy", "mutualinformation")
"""Maps of uncertainty whose unit is nats, by their `desc`."""


def layers_of_file(path: Path) -> list[LayerTuple]:
    """The layers of a file.

    Raises:
        DataError: it is none that can be shown, or it is damaged.
    """
    if is_table(path):
        return [points_of(path)]
    if not path.name.endswith(IMAGES):
        raise DataError(f"{path}: is no file that can be shown; {', '.join(IMAGES)}, .tsv are")
    if is_field(path):
        return [field_layer(*read_field(path), stem(path))]
    return [image_of(path)]


def stem(path: Path) -> str:
    """A file's name without its ending."""
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]


def suffix_of(path: Path) -> str:
    """The last word of a name: T1w, dseg, probseg."""
    return stem(path).rsplit("_", 1)[-1]


def who_of(path: Path) -> str:
    """sub-X or sub-X_ses-Y of a file's name; "" where it says neither."""
    said = parse_entities(path)
    return "_".join(f"{k}-{said[k]}" for k in ("sub", "ses") if k in said)


def is_field(path: Path) -> bool:
    """Whether a header says that the voxels are vectors of a displacement field."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    image = opened(path)
    header = getattr(image, "header", {})
    code = int(header["intent_code"]) if "intent_code" in header else 0
    return len(getattr(image, "shape", ())) == 5 and code in (DISPLACEMENT, VECTOR)


def read_frames(path: Path) -> list[Volume]:
    """The volumes of a file: one, or those along its fourth axis, such as members of an ensemble.

    Raises:
        DataError: see `Volume.read`; a series that has more axes, or voxels that are no numbers.
    """
    image = opened(path)
    shape = tuple(getattr(image, "shape", ()))  # of a surface there is none; read_header says so
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 4 or not hasattr(image, "dataobj"):
        return [Volume.of(read_header(path))]  # which says what is amiss
    check_values(path, image.get_data_dtype())
    check_size(path, image)
    affine, code, _ = placement(path, image, shape[:3], None)
    try:
        data = array_of(image).reshape(shape)
    except Exception as error:
        raise unreadable(path, error) from None
    if not np.isfinite(data).all():
        raise DataError(f"{path}: has voxels that are NaN or infinite; mend it, or make it anew")
    return [Volume(data[..., i], affine, code) for i in range(shape[3])]


def image_of(path: Path, limits: tuple[float, float] | None = None) -> LayerTuple:
    """An image, a label map, a probability or a map of uncertainty, as its name says."""
    frames, name = read_frames(path), stem(path)
    if holds_labels(path):
        names, colours = names_beside(path)
        return labels_layer(frames, name, names=names, colours=colours, path=path)
    if suffix_of(path) != "probseg":
        return image_layer(frames, name, limits=limits, path=path)
    desc = parse_entities(path).get("desc")
    if "label" in parse_entities(path):
        return probability_layer(frames, name, path=path)
    top = max(float(frames[0].data.max()), 1e-6)
    unit = "nats" if desc in NATS else ""
    return probability_layer(frames, name, limits=(0.0, top), unit=unit, path=path)


def names_beside(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Names and colours of a label map's labels, from the table beside it or above it, as BIDS has it.

    That of a mask is the word after `label`. A table is of a label map if it says nothing else in its
    name; of several the one that says most.
    """
    said = parse_entities(path)
    if suffix_of(path) == "mask":
        return {1: said.get("label", said.get("desc", "mask"))}, {}
    for folder in [path.parent, *path.parent.parents][:5]:
        tables = [t for t in folder.glob("*dseg.tsv") if parse_entities(t).items() <= said.items()]
        if tables:
            return read_names(max(tables, key=lambda t: len(parse_entities(t))))
        if (folder / DESCRIPTION).is_file():  # the dataset's top
            break
    return {}, {}


def read_names(table: Path) -> tuple[dict[int, str], dict[int, str]]:
    """A table with columns index, name and perhaps color (#rrggbb), as BIDS has it."""
    names, colours = {}, {}
    for row in read_rows(table):
        try:
            index = int(float(row["index"]))
            names[index] = row["name"]
        except (KeyError, ValueError):
            raise DataError(f"{table}: columns index (whole numbers) and name are due") from None
        colour = row.get("color", "")
        if colour.lower() not in MISSING and index:
            colours[index] = colour
    return names, colours


def points_of(path: Path) -> LayerTuple:
    """A table of points in mm, RAS+; its other columns are shown under the cursor.

    Raises:
        DataError: it has no such columns, or something else than numbers in them.
    """
    rows = read_rows(path)
    columns = next((c for c in PLACES if set(c) <= set(rows[0])), None)
    if columns is None:
        raise DataError(
            f"{path}: is no table of points: columns x, y, z (or x_mm, y_mm, z_mm) in mm are due, it has "
            f"{', '.join(rows[0])}"
        )
    try:
        points = np.array([[float(row[c]) for c in columns] for row in rows])
    except ValueError as error:
        raise DataError(f"{path}: {error} in {', '.join(columns)}, mm are due") from None
    features = {c: [row[c] for row in rows] for c in rows[0] if c not in columns}
    return points_layer(points, stem(path), features=features)
