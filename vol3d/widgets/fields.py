"""The fields of a form, made from typed settings: kind, bounds, default and doc string are said once."""

import types
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from vol3d.cli.help import docs_of
from vol3d.config import Config, configs_in, kinds_of

FieldKind = Literal["whole", "number", "switch", "choice", "path", "file", "folder", "text"]
LARGEST = 2**31 - 1
"""What a box for whole numbers can hold."""


@dataclass(frozen=True)
class Field:
    """One line of a form.

    Attributes:
        name: of the setting.
        words: its doc string.
        kind: what is entered; a path is that of a file or a folder.
        default: its value where nothing is entered.
        optional: null is allowed, which the form shows as a tick that is off.
        low: least value of a number, where it has one.
        high: largest value, likewise.
        choices: of which one is taken.
    """

    name: str
    words: str
    kind: FieldKind
    default: Any
    optional: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


def fields_of(config: type[Config] | Config, *names: str) -> list[Field]:
    """The fields of some settings, in this order.

    Args:
        config: a group of settings; where it is one with values, these are the defaults.
        names: of the settings.

    Raises:
        TypeError: a setting is a group or a list, for which a form has no line.
    """
    cls = config if isinstance(config, type) else type(config)
    docs = docs_of(cls)
    found = []
    for name in names:
        info = cls.model_fields[name]
        given = (
            info.get_default(call_default_factory=True) if config is cls else getattr(config, name)
        )
        found.append(field_of(name, docs.get(name, ""), info, given))
    return found


def field_of(name: str, words: str, info: FieldInfo, default: Any) -> Field:
    """One field."""
    annotation, rules, optional = unwrapped(info.annotation, list(info.metadata))
    low, high = bounds(rules, is_whole=annotation is int)
    if default is not None and getattr(default, "kind", None):
        default = default.kind
    default = None if info.is_required() and not isinstance(default, str | int | float) else default
    rest = {"name": name, "words": words, "default": default, "optional": optional}
    if menu := configs_in(annotation):
        return Field(kind="choice", choices=tuple(k for c in menu for k in kinds_of(c)), **rest)
    if get_origin(annotation) is Literal:
        return Field(kind="choice", choices=tuple(map(str, get_args(annotation))), **rest)
    kinds: dict[Any, FieldKind] = {
        bool: "switch",
        int: "whole",
        float: "number",
        Path: "path",
        str: "text",
    }
    if annotation not in kinds:
        raise TypeError(f"{name}: a form has no line for {annotation}")
    return Field(kind=kinds[annotation], low=low, high=high, **rest)


def unwrapped(annotation: Any, rules: list[Any]) -> tuple[Any, list[Any], bool]:
    """A type without what is wrapped around it, the rules for its values, and whether null is one."""
    optional = False
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            rules = [*rules, *more]
        elif get_origin(annotation) in (Union, types.UnionType):
            inner = [a for a in get_args(annotation) if a is not type(None)]
            optional = optional or len(inner) < len(get_args(annotation))
            if len(inner) > 1:  # a menu
                return annotation, rules, optional
            annotation = inner[0]
        else:
            return annotation, rules, optional


def bounds(rules: list[Any], *, is_whole: bool) -> tuple[float | None, float | None]:
    """The least and the largest value that pydantic's rules allow; of open ends the next one."""
    step = 1 if is_whole else 1e-6
    low = high = None
    for rule in rules:
        for name, by in (("ge", 0), ("gt", step)):
            low = low if getattr(rule, name, None) is None else getattr(rule, name) + by
        for name, by in (("le", 0), ("lt", step)):
            high = high if getattr(rule, name, None) is None else getattr(rule, name) - by
    return low, high
