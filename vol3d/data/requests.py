"""A table of what is asked of a generator: a row a sample, a column a covariate."""

import logging
from pathlib import Path

from vol3d.data.covariates import near_name
from vol3d.data.tables import cell, few, read_rows
from vol3d.errors import ConfigError

log = logging.getLogger(__name__)


def read_table(path: Path, known: list[str]) -> list[dict[str, str | None]]:
    """The rows of a covariates table: seeds, and what the model knows; other columns are told.

    Raises:
        ConfigError: a column's name is nearly that of a covariate that is not there.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such table")
    rows = read_rows(path)
    others = [name for name in rows[0] if name not in ("participant_id", "seed", *known)]
    lacks = [name for name in known if name not in rows[0]]
    for name in others:
        if near := near_name(name, lacks):
            raise ConfigError(
                f"{path}: column '{name}' is no covariate of this model. Did you mean '{near}'? It "
                f"knows: {', '.join(known) or 'none'}"
            )
    if others:
        log.warning(
            "warning: %s: left aside, as the model knows nothing of it: %s", path, few(others)
        )
    return [{k: cell(row, k) for k in row if k in ("seed", *known)} for row in rows]


def whole(text: str, table: Path) -> int:
    """A seed as a number."""
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{table}: seed {text!r}: a whole number is due") from None
