"""The menu of datasets: where scans, labels and covariates come from."""

from pathlib import Path
from typing import Any

from vol3d.config import lay, menu
from vol3d.data.datasets.bids import Bids
from vol3d.data.datasets.image import OneImage
from vol3d.data.datasets.table import Table
from vol3d.io.text import brief

Source = menu("datasets", Bids, Table, OneImage)

__all__ = ["Bids", "OneImage", "Source", "Table", "settings_at", "told_by_path"]


def settings_at(given: Any, told: Any) -> dict[str, Any]:
    """The settings of the images at a path: a NIfTI file, the folder of a BIDS dataset, or a table.

    Args:
        given: the path, which tells their kind, where nobody says it.
        told: what else is said of them. What chooses among many, as in a file of settings, has no say
            of one image.

    Raises:
        ValueError: these are no path and no settings.
    """
    if not isinstance(given, Path | str):
        raise ValueError(f"{brief(given)}: a NIfTI file, a folder or a table is due")
    if not isinstance(told, dict | None):
        raise ValueError(f"data: settings are due, got {brief(told)}")
    path, told = Path(given), told or {}
    kind = "bids" if path.is_dir() or not path.suffix else "table"
    if path.name.endswith((".nii", ".nii.gz")):
        kind = "image"
        for_many = {*Bids.model_fields, *Table.model_fields} - {*OneImage.model_fields}
        told = {k: v for k, v in told.items() if k not in for_many} | {"kind": kind}
    return lay({"kind": kind}, {**told, "path": path})


def told_by_path(given: dict[str, Any]) -> dict[str, Any]:
    """Settings of a verb, with the kind of its data told by their path where nobody says it."""
    data = given.get("data")
    if not isinstance(data, dict) or "kind" in data or "path" not in data:
        return given
    return {**given, "data": settings_at(data["path"], data)}
