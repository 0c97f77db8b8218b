"""The door for what comes from outside: JSON, YAML, text and names of files, checked as they are read.

Bundles, latents, sidecars and tables may be cut off, made by another program, or meant to do harm.
Whatever is wrong with one is a DataError in one line that begins with its name.
"""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from omegaconf import OmegaConf

from vol3d.errors import ConfigError, DataError, Vol3dError

MOST_VALUES = 100_000
"""In a YAML file."""


def read_text(path: Path) -> str:
    """A text file in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not text in UTF-8; save it as that") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds values by name."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: is no JSON ({first_line(error)}); mend it, or copy it again"
        ) from None
    return named(content, path)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds values by name; nothing in it is evaluated, and tags are refused."""
    text = read_text(path)
    try:
        if unfolded(yaml.compose(text, yaml.SafeLoader), {}) > MOST_VALUES:
            raise ValueError(f"its aliases stand for more than {MOST_VALUES} values")
        content = OmegaConf.to_container(OmegaConf.load(io.StringIO(as_text(text))))
    except Exception as error:  # PyYAML and OmegaConf raise several unrelated kinds
        raise DataError(f"{path}: not readable as YAML ({first_line(error)})") from None
    return named(content, path)


def as_text(content: str) -> str:
    """YAML in which digits that begin with a zero are in quotes: 01 names somebody, and is no number."""
    words = [e for e in yaml.parse(content, yaml.SafeLoader) if isinstance(e, yaml.ScalarEvent)]
    for word in reversed(words):
        if word.style is None and re.fullmatch(r"0\d+", word.value):  # None: not in quotes already
            start, end = word.start_mark.index, word.end_mark.index
            content = f'{content[:start]}"{word.value}"{content[end:]}'
    return content


def unfolded(node: Any, known: dict[int, int]) -> int:
    """How many values a YAML node stands for once its aliases are written out: a line may be billions."""
    if isinstance(node, tuple):  # a key and its value
        return sum(unfolded(n, known) for n in node)
    if id(node) not in known:
        known[id(node)] = 1  # for one that holds itself
        parts = getattr(node, "value", None)
        known[id(node)] += sum(unfolded(n, known) for n in parts) if isinstance(parts, list) else 0
    return known[id(node)]


def named(content: object, path: Path) -> dict[str, Any]:
    """The content of a file, which is to be values by name."""
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise DataError(f"{path}: values by name are due (a mapping), it holds a {kind}")
    return content


def under(content: object, *keys: str) -> dict[str, Any]:
    """The mapping that lies under some keys, one below the other; {} where there is none."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def inside(folder: Path, name: object, told_by: Path) -> Path:
    """The file of a folder that another file names.

    Args:
        folder: where it must lie, links followed.
        name: its path from there, with slashes.
        told_by: the file that names it.

    Raises:
        DataError: the name is none, or leads out of the folder.
    """
    parts = PurePosixPath(name).parts if isinstance(name, str) and "\0" not in name else ()
    path = folder.joinpath(*parts)
    if not parts or ".." in parts or not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"{told_by}: names {name!r}, which is no file within {folder}; it is damaged or not to be "
            f"trusted (where the files are links, copy the folder with what they point to: cp -rL)"
        )
    return path


@contextmanager
def naming(what: object) -> Iterator[None]:
    """While it lasts, a DataError that knows no file begins with what it is about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{what}: {error}") from None


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """While it lasts, the content of a file is made sense of; what fails in that is the file's fault.

    Raises:
        DataError: something is missing in it, or of another kind than is due.
        ConfigError: it holds settings, and these are off.
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except Vol3dError:
        raise
    except Exception as error:  # whatever indexing, numpy and torch say of what does not fit
        raise DataError(
            f"{path}: does not hold what is due ({type(error).__name__}: {first_line(error)}); "
            f"copy it again, or make it anew"
        ) from None


def first_line(error: Exception) -> str:
    """The gist of an error."""
    return next(iter(str(error).splitlines()), type(error).__name__)
