"""Which images are registered to which: a fixed image, the template by its name, or a table of pairs."""

from dataclasses import replace
from pathlib import Path

from vol3d.config import did_you_mean
from vol3d.data.datasets import OneImage
from vol3d.data.tables import cell, read_rows
from vol3d.data.visit import MAIN_LABELS, Visit
from vol3d.errors import ConfigError, DataError
from vol3d.trained.registration_folder import TEMPLATES, template_visit

COLUMNS = ("moving", "fixed", "moving_mask", "fixed_mask", "moving_labels", "fixed_labels")


def read_pairs(table: Path, out: Path) -> list[tuple[Visit, Visit]]:
    """The rows of a table as moving and fixed visits; paths are relative to the table.

    Args:
        table: with the columns moving and fixed, and the other `COLUMNS` if wanted.
        out: the folder of the results, into which the template is written.

    Raises:
        ConfigError: a file is not there.
        DataError: a column is missing, or has another name.
    """
    rows = read_rows(there(table))
    for column in COLUMNS[:2]:
        if column not in rows[0]:
            near = did_you_mean(column, list(rows[0]))
            raise DataError(
                f"{table}: has no column '{column}'.{near} It has: {', '.join(rows[0])}."
            )
    if unknown := [c for c in rows[0] if c not in COLUMNS]:
        raise DataError(
            f"{table}: has a column '{unknown[0]}', which says nothing here."
            f"{did_you_mean(unknown[0], list(COLUMNS))} Known: {', '.join(COLUMNS)}."
        )
    return [row_as_visits(row, table, out) for row in rows]


def row_as_visits(row: dict[str, str], table: Path, out: Path) -> tuple[Visit, Visit]:
    """One row."""
    paths = {c: table.parent / row[c] for c in COLUMNS if cell(row, c)}
    for column in COLUMNS[:2]:
        if column not in paths:
            raise DataError(f"{table}: a row names no '{column}'")
    moving = visit_of(paths["moving"], paths.get("moving_mask"), paths.get("moving_labels"))
    name, beside = row["fixed"], (paths.get("fixed_mask"), paths.get("fixed_labels"))
    return moving, fixed_visit(name, paths["fixed"], *beside, out)


def fixed_visit(name: str, image: Path, mask: Path | None, labels: Path | None, out: Path) -> Visit:
    """The image that stays: a file, or the template where `name` is its and no file's.

    Raises:
        ConfigError: it is neither; the template is given a mask.
    """
    if image.is_file():
        return visit_of(image, mask, labels)
    if name not in TEMPLATES:
        raise ConfigError(
            f"{image}: no such image, nor is it one of {', '.join(TEMPLATES)}."
            f"{did_you_mean(name, list(TEMPLATES))}"
        )
    if mask:
        raise ConfigError("fixed_mask: the template has its own; leave it out")
    return labelled(template_visit(out, name), labels)


def visit_of(image: Path, mask: Path | None, labels: Path | None) -> Visit:
    """A single image, its brain mask and its label map."""
    (visit,) = OneImage(path=image, mask=mask).chosen()
    return labelled(visit, labels)


def labelled(visit: Visit, labels: Path | None) -> Visit:
    """The visit with a label map, if there is one."""
    return replace(visit, labels={MAIN_LABELS: there(labels)}) if labels else visit


def there(path: Path) -> Path:
    """A file that must be there, else a ConfigError."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    return path
