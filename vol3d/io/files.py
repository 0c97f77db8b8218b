"""Files: written whole or not at all, and known by what is in them."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vol3d.errors import ConfigError
from vol3d.io.text import on_one_line


@contextmanager
def whole(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """A name beside `path`, of the same ending: what is written there takes its place at the end.

    Where writing fails, `path` is as it was and nothing is left beside it.

    Args:
        path: the file to write.
        keep: leave a file that is there as it is: of several processes the first one writes it.
    """
    part = beside(path)
    try:
        yield part
        if not keep:
            part.replace(path)
            return
        try:
            os.link(part, path)
        except OSError:  # it is there; or a file system without links, as on memory cards
            if not path.exists():
                part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """A hidden name beside `path`, of the same ending, that nothing has."""
    return path.with_name(f".{secrets.token_hex(4)}.{path.name}")


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder, whole or not at all; of several processes the first one's copy stays."""
    part = beside(target)
    try:
        shutil.copytree(source, part)
        part.rename(target)  # fails where there is one
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def make_folder(folder: Path) -> Path:
    """Make a folder, and those that it is in, unless it is there.

    Raises:
        ConfigError: it cannot be made: a file is in the way, or it is not allowed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder}: this folder cannot be made ({error.strerror}); name another one"
        ) from None
    return folder


def checked_image_name(given: Path | str) -> Path:
    """The path, if it can be that of a NIfTI file to write; else a ConfigError."""
    if not isinstance(given, Path | str) or not str(given).endswith((".nii", ".nii.gz")):
        raise ConfigError(
            f"{on_one_line(given)}: the name of a NIfTI file is due, ending in .nii.gz"
        )
    return Path(given)


def check_new_image(path: Path, overwrite: bool) -> None:
    """Refuse, by a ConfigError, a path that cannot be that of a new NIfTI file."""
    checked_image_name(path)
    if path.exists() and not overwrite:
        raise ConfigError(f"{path}: is there already; name another, or overwrite=true")


def is_free(folder: Path) -> bool:
    """Whether a folder is not there, or holds nothing but hidden files, which are under way.

    Raises:
        ConfigError: it is not allowed to look into it.
    """
    try:  # one look, for another process may make it meanwhile
        return all(p.name.startswith(".") for p in folder.iterdir())
    except FileNotFoundError:
        return True
    except NotADirectoryError:  # a file; or one is in the way, which making the folder will tell
        return not folder.exists()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be looked into ({error.strerror})") from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
