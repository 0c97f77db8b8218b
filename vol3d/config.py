"""Settings: typed fields that say what they are; YAML and `key=value` that fill them."""

import difflib
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, Union, get_args, get_origin

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from vol3d.errors import ConfigError, DataError, NameOnlyError
from vol3d.io.reading import as_text, first_line
from vol3d.io.reading import read_yaml as read_yaml_file
from vol3d.io.text import LONGEST, brief, on_one_line

C = TypeVar("C", bound="Config")
DUE = {"path_type": "a path is due", "model_attributes_type": "a group of settings is due"}
"""What Pydantic says in words of its own."""


class Config(BaseModel):
    """A group of settings. Frozen; unknown keys are refused; a doc string stands below each field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, path: Path | str | None = None, overrides: list[str] | None = None) -> Self:
        """Read a YAML file, lay `key=value` overrides on top, and check every field.

        `based_on: [a.yaml, b.yaml]` in a file lays those (relative to it) beneath it. Naming another
        `kind` in a group replaces the group.

        Raises:
            ConfigError: for a missing file, bad YAML, unknown keys or values out of range.
        """
        settings = read_yaml(Path(path)) if path is not None else {}
        for override in overrides or []:
            settings = lay(settings, parse_override(override))
        return cls.parse(settings)

    @classmethod
    def parse(cls, settings: dict[str, Any]) -> Self:
        """Check a nested dict of settings against the fields."""
        try:
            return cls.model_validate(expand_kinds(settings, cls))
        except ValidationError as error:
            wrong = [e for e in error.errors() if not needs_a_library(e)]
            raise ConfigError(explain(wrong, cls)) if wrong else NameOnlyError from None

    def dump(self) -> dict[str, Any]:
        """The settings as plain values: `Config.parse(config.dump()) == config`."""
        return self.model_dump(mode="json")

    def write(self, path: Path | str) -> None:
        """Write the settings as YAML."""
        Path(path).write_text(OmegaConf.to_yaml(OmegaConf.create(self.dump())))


def menu(group: str, *kinds: type[Config]) -> Any:
    """A choice of components, told apart by `kind`: ours, and those that installed packages add.

    A package adds one with an entry point in the group `vol3d.<group>` (see CONTRIBUTING.md).

    Raises:
        ConfigError: what a package adds is no Config, or has a kind that is taken.
    """
    choices, taken = list(kinds), {kind for c in kinds for kind in kinds_of(c)}
    for point in installed().select(group=f"vol3d.{group}"):
        added = point.load()
        if not (isinstance(added, type) and issubclass(added, Config) and kinds_of(added)):
            raise ConfigError(f"plug-in {point.value}: a Config with a `kind` is due in {group}")
        if taken & set(kinds_of(added)):
            raise ConfigError(
                f"plug-in {point.value}: {group} has a '{kinds_of(added)[0]}' already"
            )
        taken |= set(kinds_of(added))
        choices.append(added)
    return Annotated[Union[tuple(choices)], Field(discriminator="kind")]  # noqa: UP007


@cache
def installed() -> EntryPoints:
    """What installed packages offer; to look at each of them takes a while."""
    return entry_points()


def read_yaml(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """One YAML file with what it is based on beneath it; `above` are those that are based on it."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such config file")
    if path.resolve() in above:
        raise ConfigError(f"{path}: is based on itself; mend its based_on")
    try:
        settings = read_yaml_file(path)
    except DataError as error:
        raise ConfigError(str(error)) from None
    based_on = settings.pop("based_on", [])
    names = [based_on] if isinstance(based_on, str) else based_on
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: based_on: a file or a list of files is due, got {based_on!r}")
    base: dict[str, Any] = {}
    for name in names:
        base = lay(base, read_yaml(path.parent / name, (*above, path.resolve())))
    return lay(base, settings)


def parse_override(text: str) -> dict[str, Any]:
    """`optim.lr=1e-4` as a nested dict; values are read as YAML reads them."""
    key, equals, value = text.partition("=")
    if not equals or not key or key.startswith("["):
        raise ConfigError(f"'{text}': a setting is given as key=value, for example seed=1")
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"{key}={as_text(value)}"]))
    except Exception as error:  # PyYAML and OmegaConf raise several unrelated kinds
        raise ConfigError(f"'{text}': {first_line(error)}") from None


def lay(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Lay one nested dict over another; another `kind` replaces the whole group.

    What says no kind goes with any.
    """
    out = dict(base)
    for key, value in top.items():
        below = out.get(key)
        if isinstance(below, str) and isinstance(value, dict) and "kind" not in value:
            below = {"kind": below}
        if isinstance(below, dict) and isinstance(value, dict):
            same = "kind" not in {*value} & {*below} or value["kind"] == below["kind"]
            out[key] = lay(below, value) if same else value
        else:
            out[key] = value
    return out


def flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as pairs of dotted name and value."""
    pairs = []
    for key, value in settings.items():
        inner = isinstance(value, dict)
        pairs += flat(value, f"{prefix}{key}.") if inner else [(f"{prefix}{key}", value)]
    return pairs


def several(given: Any) -> Any:
    """One thing stands for a list of one."""
    return given if given is None or isinstance(given, list | tuple) else [given]


def without_nulls(named: Any) -> Any:
    """A group by names, in which an entry of a base config that is set to null is taken away."""
    if not isinstance(named, dict):
        return named
    return {name: entry for name, entry in named.items() if entry is not None}


def configs_in(annotation: Any) -> list[type[Config]]:
    """The Config classes that a field's annotation may hold (a menu holds several)."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    if get_origin(annotation) in (dict, list, tuple):
        return []
    return [c for arg in get_args(annotation) for c in configs_in(arg)]


def kinds_of(cls: type[Config]) -> list[str]:
    """The values that `kind` may take in a component: one, or none where it is no component."""
    field = cls.model_fields.get("kind")
    return [str(v) for v in get_args(field.annotation)] if field else []


def entries_in(annotation: Any) -> list[type[Config]]:
    """The Config classes that the values of a dict field may be."""
    return configs_in(get_args(annotation)[1]) if get_origin(annotation) is dict else []


def expand_kinds(settings: dict[str, Any], cls: type[Config]) -> dict[str, Any]:
    """`solver: heun` is short for `solver: {kind: heun}`, and a part of a group keeps the rest."""
    out = dict(settings)
    for key, field in cls.model_fields.items():
        if key not in out:
            continue
        if entries := entries_in(field.annotation):
            if isinstance(out[key], dict):
                base = {k: v.dump() for k, v in (field.default or {}).items()}
                laid = lay(base, {k: spelt(v, entries) for k, v in out[key].items()})
                out[key] = {k: expand(v, entries) for k, v in laid.items()}
        elif menu := configs_in(field.annotation):
            out[key] = spelt(out[key], menu)
            if isinstance(out[key], dict) and isinstance(field.default, Config):
                out[key] = lay({key: field.default.dump()}, {key: out[key]})[key]
            out[key] = expand(out[key], menu)
    return out


def spelt(value: Any, menu: list[type[Config]]) -> Any:
    """A kind that was named by a word alone, in full."""
    return {"kind": value} if isinstance(value, str) and any(map(kinds_of, menu)) else value


def expand(value: Any, menu: list[type[Config]]) -> Any:
    """A group of settings with the kinds in it in full."""
    if not isinstance(value, dict):
        return value
    wanted = [c for c in menu if value.get("kind") in kinds_of(c)] or menu[:1]
    return expand_kinds(value, wanted[0])


def needs_a_library(error: ErrorDetails) -> bool:
    """Whether a rule could not be asked, because in an outline libraries are left out."""
    return isinstance(error.get("ctx", {}).get("error"), NameOnlyError)


def explain(errors: list[ErrorDetails], cls: type[Config]) -> str:
    """Pydantic's findings as one line each: key, rule, value, and the nearest known name."""
    lines = []
    for e in errors:
        where = [str(part) for part in e["loc"]]
        group, path = group_at(cls, where)
        key = ".".join(path)
        if e["type"] == "extra_forbidden":
            known = [k for k in group.model_fields if k != "kind"]
            lines.append(
                f"unknown key '{key}'.{did_you_mean(path[-1], known)} Known: {', '.join(known)}."
            )
        elif e["type"] == "union_tag_not_found":
            menu = configs_in(group.model_fields[path[-1]].annotation)
            known = ", ".join(sorted(k for c in menu for k in kinds_of(c)))
            lines.append(f"{key}.kind: is needed and was not given. Known: {known}.")
        elif e["type"] in ("union_tag_invalid", "literal_error"):
            told = e["ctx"].get("expected_tags") or e["ctx"]["expected"]  # 'a', 'b' or 'c'
            known = sorted(told.replace("'", "").replace(" or ", ", ").split(", "))
            tag = on_one_line(e["ctx"].get("tag", e["input"]))[:LONGEST]
            name = "kind" if e["type"].startswith("union") else "value"
            near = did_you_mean(tag, known)
            lines.append(f"{key}: unknown {name} '{tag}'.{near} Known: {', '.join(known)}.")
        elif e["type"] == "missing":
            lines.append(f"{key}: is needed and was not given")
        elif e["type"] == "value_error":
            lines.append((f"{key}: " if key else "") + str(e["ctx"]["error"]))
        else:
            due = DUE.get(e["type"], e["msg"])
            lines.append(f"{key}: {due}, got {brief(e['input'])}")
    return "; ".join(dict.fromkeys(lines))


def group_at(cls: type[Config], where: list[str]) -> tuple[type[Config], list[str]]:
    """The Config class that holds the last key of a pydantic location, and the keys as users know.

    Pydantic puts the `kind` of a menu into its locations; users do not.
    """
    path, group, menu = [], cls, []
    for part in where:
        tagged = [c for c in menu if part in kinds_of(c)]
        if tagged:
            group, menu = tagged[0], []
            continue
        if menu:
            group = menu[0]
        path.append(part)
        field = group.model_fields.get(part)
        menu = configs_in(field.annotation) if field else []
    return group, path


def did_you_mean(word: str, known: list[str]) -> str:
    """A hint with the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
