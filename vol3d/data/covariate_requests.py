"""What is asked of a generator: words of a command, or a table with a row a sample."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from vol3d.config import did_you_mean
from vol3d.data.covariate_types import Row
from vol3d.data.covariates import Covariates, near_name
from vol3d.data.tables import cell, few, read_rows
from vol3d.errors import ConfigError

log = logging.getLogger(__name__)


def read_table(path: Path, known: list[str]) -> list[dict[str, str | None]]:
    """The rows of a covariates table: seeds, and what the model knows; other columns are told.

    A name that is nearly that of a covariate which is not there is a ConfigError.
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


def gathered(given: dict[str, Any], settings: Collection[str]) -> dict[str, Any]:
    """Words of a command, with those that are no settings as covariates under `ask`: age=70."""
    known = {k: v for k, v in given.items() if k in settings}
    rest = {k: v for k, v in given.items() if k not in settings}
    return {**known, "ask": {**known.get("ask", {}), **rest}} if rest else known


def checked(schema: Covariates, asked: dict[str, Any], settings: Collection[str]) -> Row:
    """Covariates that are asked for, as a model knows them; a ConfigError where it does not."""
    for name in asked:
        if name not in schema.names:
            raise ConfigError(
                f"unknown setting or covariate '{name}'."
                f"{did_you_mean(name, [*schema.names, *settings])} "
                f"This model's covariates: {', '.join(schema.names) or 'none'}."
            )
    return schema.check(asked)
