"""Read a volume, and show several side by side; torch is not loaded for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from vol3d.errors import ConfigError
from vol3d.io.header import Form
from vol3d.io.text import brief, kind_of
from vol3d.planes import put_up
from vol3d.volume import Volume, together


def read(path: Path | str, form: Form | None = None) -> Volume:
    """Read a 3-D NIfTI image (or another format that nibabel knows), whole and checked.

    Args:
        path: the file.
        form: sform or qform: which holds where a header says two things about left and right.

    Raises:
        ConfigError: `path` or `form` is neither of these.
        DataError: no such file; truncated or not an image; not 3-D; NaN or infinite voxels; no
            sform and no qform, or two that disagree, so that left and right would be a guess.
    """
    if not isinstance(path, Path | str):
        raise ConfigError(f"path: a file is due, got {kind_of(path)}")
    if form not in (None, *get_args(Form)):
        raise ConfigError(f"form={brief(form)}: unknown. Known: {', '.join(get_args(Form))}.")
    return Volume.read(path, form)


def show(
    volumes: Mapping[str, Volume],
    *,
    at: Sequence[float] | None = None,
    outline: Volume | None = None,
) -> None:
    """Show volumes of one grid by title, in the same planes and greys.

    Beneath the cell of a notebook, or in a window.

    Args:
        volumes: one or more.
        at: the point, mm, RAS+, through which the planes go; None: the middle.
        outline: a mask or labels on the same grid, whose edge is drawn over each.

    Raises:
        ConfigError: they lie on different grids, or the point lies outside.
    """
    put_up(together(volumes, at=at, outline=outline))
