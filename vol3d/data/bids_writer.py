"""Writing a BIDS derivatives dataset: names, the tables at the top, and sidecars.

Every file is written whole or not at all, so a run that is stopped leaves nothing half done.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vol3d
from vol3d.io.files import make_folder, whole
from vol3d.io.reading import read_json, under

BIDS_VERSION = "1.9.0"
DESCRIPTION = "dataset_description.json"
ENTITIES = ("acq", "ce", "rec", "run", "from", "to", "mode", "space", "res", "label", "desc")
"""In the order that BIDS wants them, after sub- and ses-."""
LABEL_SUFFIXES = ("dseg", "mask")
"""Last words of the names of files whose values are labels."""
MNI_SPACE = "MNI152NLin2009aSym"
"""BIDS's word for the world of nilearn's MNI152 template."""


def bids_name(entities: dict[str, str], suffix: str, scan: str = "") -> str:
    """A file name without its ending: `sub-01_space-MNI_res-2_desc-brain_T1w`.

    Args:
        entities: space, res, desc and the like, in any order.
        suffix: the last word.
        scan: `sub-01` or `sub-01_ses-02`; without it the name of a sidecar for the whole dataset.
    """
    words = [f"{key}-{entities[key]}" for key in sorted(entities, key=ENTITIES.index)]
    return "_".join([*([scan] if scan else []), *words, suffix])


def parse_entities(path: Path) -> dict[str, str]:
    """The words of a BIDS file name: {"sub": "01", "res": "2", ...}."""
    stem = re.sub(r"\.nii(\.gz)?$", "", path.name)
    return dict(word.split("-", 1) for word in stem.split("_") if "-" in word)


def anat_path(folder: Path, scan: str, entities: dict[str, str], suffix: str) -> Path:
    """Where an image of a scan goes; its folder is made."""
    path = anat_place(folder, scan, entities, suffix)
    return make_folder(path.parent) / path.name


def anat_place(folder: Path, scan: str, entities: dict[str, str], suffix: str) -> Path:
    """Where an image of a scan would go; nothing is made."""
    name = f"{bids_name(entities, suffix, scan)}.nii.gz"
    return folder.joinpath(*scan.split("_"), "anat", name)


def holds_labels(image: Path) -> bool:
    """Whether a file's name says that its values are labels, which must not be mixed: ..._dseg.nii.gz."""
    return image.name.split(".")[0].rsplit("_", 1)[-1] in LABEL_SUFFIXES


def sidecar_of(image: Path) -> Path:
    """The JSON file beside an image; written last: with it the image is complete."""
    return image.with_suffix("").with_suffix(".json")


def write_text(path: Path, text: str, *, keep: bool = False) -> None:
    """Write a text file, whole or not at all; `keep` leaves one that is there as it is."""
    with whole(path, keep=keep) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict, *, keep: bool = False) -> None:
    """Write a JSON file, whole or not at all; `keep` leaves one that is there as it is."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n", keep=keep)


def write_tsv(path: Path, rows: list[dict[str, object]], columns: Sequence[str] = ()) -> None:
    """Write rows as a TSV; None becomes n/a. Columns are those of the first row, or told if none."""
    columns = list(rows[0]) if rows else columns
    lines = [columns, *([row[k] for k in columns] for row in rows)]
    write_text(path, "".join("\t".join(map(cell, line)) + "\n" for line in lines))


def cell(value: object) -> str:
    """A value of a table; text that came from another kind of table may hold a tab."""
    return "n/a" if value is None else re.sub(r"[\t\r\n]", " ", str(value))


def write_description(
    folder: Path,
    name: str,
    licence: str,
    made_by: dict,
    more: dict | None = None,
    *,
    keep: bool = False,
) -> None:
    """Write dataset_description.json.

    `made_by` has Name and Description of what made it, and anything else worth keeping; `more` are
    further entries. `keep` leaves one that is there as it is, so that the first of several processes
    writes it.
    """
    content = {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "License": licence,
        "GeneratedBy": [{"Version": vol3d.__version__, **made_by}],
        **(more or {}),
    }
    write_json(make_folder(folder) / DESCRIPTION, content, keep=keep)


def read_maker(folder: Path) -> dict[str, Any]:
    """What made a dataset: the first entry of GeneratedBy; {} where nothing is said."""
    path = folder / DESCRIPTION
    makers = read_json(path).get("GeneratedBy") if path.is_file() else None
    return under(makers[0]) if isinstance(makers, list) and makers else {}


def write_participants(
    folder: Path, rows: list[dict[str, object]], columns: dict[str, dict]
) -> None:
    """Write participants.tsv, and participants.json that says what its columns mean."""
    write_json(folder / "participants.json", columns)
    write_tsv(folder / "participants.tsv", rows)


def write_sidecar(folder: Path, entities: dict[str, str], suffix: str, content: dict) -> None:
    """Write what holds for all images of a kind, once, at the top of the dataset."""
    write_json(folder / f"{bids_name(entities, suffix)}.json", content)
