"""What `vol3d VERB --help` says of settings: a line for each, with its default and its doc string."""

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from vol3d.config import Config, configs_in, did_you_mean, entries_in, kinds_of
from vol3d.errors import ConfigError

ALL = "all"


def help_of(name: str, verb: type[Config], topic: str = "") -> str:
    """What `vol3d VERB --help` prints.

    Args:
        name: of the verb.
        verb: its settings.
        topic: the dotted name of a group, to print what is in it; or all. Otherwise the verb's own
            settings, with the groups among them by name.
    """
    lines = describe(verb, topic.replace(".NAME", ""))
    if not lines:
        near = did_you_mean(topic, list(verb.model_fields))
        raise ConfigError(
            f"vol3d {name} has no setting '{topic}'.{near} See vol3d {name} --help all"
        )
    if topic in ("", ALL):
        takes = " ".join(p.upper() for p in verb.positional) or "CONFIG.yaml"
        takes += " ..." * getattr(verb, "goes_on", False)
        usage = f"vol3d {name} {takes} [key=value ...]"
        lines = [inspect.cleandoc(verb.__doc__), "", usage, "", *lines]
    groups = [key for key, field in verb.model_fields.items() if menu_of(field.annotation)]
    if groups and not topic:
        lines += [
            "",
            f"vol3d {name} --help GROUP  the settings of {', '.join(groups)}, or of a group in one",
            f"vol3d {name} --help {ALL}    every setting",
        ]
    return "\n".join(lines) + "\n"


def describe(
    config: type[Config],
    topic: str,
    prefix: str = "",
    within: str = "",
    default: Config | None = None,
) -> list[str]:
    """A line a setting of the topic; what is in a group that is opened is indented under its kind.

    Args:
        config: the group.
        topic: what is asked for (see `help_of`).
        prefix: what stands before a setting's name: the group's, with NAME for a name of its entries'.
        within: the group's name, without NAME.
        default: what the group is where nothing is said of it; its values go before the class's own.
    """
    lines, docs = [], docs_of(config)
    for key, field in config.model_fields.items():
        if key == "kind" and len(kinds_of(config)) == 1:
            continue
        name = f"{within}.{key}".lstrip(".")
        is_meant = topic in (ALL, within, name)
        menu = menu_of(field.annotation)
        inner = f"{prefix}{key}{'.NAME' * bool(entries_in(field.annotation))}"
        if is_meant:
            shown = default_of(field, menu, default and getattr(default, key))
            lines.append(f"  {inner}{offer(menu)}{shown}: {docs.get(key, '')}")
        if not (topic in (ALL, name) or topic.startswith(f"{name}.")):
            continue
        usual = getattr(default, key) if default else field.default
        for choice in menu:
            mine = usual if type(usual) is choice else None
            below = describe(choice, topic, f"{inner}.", name, mine)
            if len(menu) > 1 and (is_meant or below):
                below = [f"  {line}" for line in below]
                lines.append(f"  {inner}={kinds_of(choice)[0]}: {choice.__doc__.splitlines()[0]}")
            lines += below
    return lines


def menu_of(annotation: object) -> list[type[Config]]:
    """What a group of settings may be: one thing, or one of several kinds; nothing for a plain value."""
    return entries_in(annotation) or configs_in(annotation)


def offer(menu: list[type[Config]]) -> str:
    """The kinds to choose from, as one would type them."""
    kinds = [kind for choice in menu for kind in kinds_of(choice)]
    return f"={'|'.join(kinds)}" if len(menu) > 1 else ".*" * len(menu)


def default_of(field: object, menu: list[type[Config]], value: object = None) -> str:
    """A default as one would type it; a group's is told with its settings.

    `menu` is what the field may be, where it is a group; `value` what it is in the group's own default.
    """
    if value is None and field.is_required():
        return " (needed)"
    value = field.get_default(call_default_factory=True) if value is None else value
    if menu and isinstance(value, Config):
        value = getattr(value, "kind", None) or {}
    if menu and isinstance(value, dict):
        return ""
    return f" [{'null' if value is None else value}]"


def docs_of(config: type[Config]) -> dict[str, str]:
    """The doc string below each field, on one line."""
    docs: dict[str, str] = {}
    for c in reversed(config.__mro__):
        if issubclass(c, Config):
            docs |= docs_in(c.__module__).get(c.__name__, {})
    return docs


@cache
def docs_in(module: str) -> dict[str, dict[str, str]]:
    """The doc strings of fields by class of a module. Pydantic would read them too, at every start."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {c.name: dict(documented(c)) for c in ast.walk(tree) if isinstance(c, ast.ClassDef)}


def documented(c: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The fields of a class that have a doc string below them, with that."""
    for two in pairwise(c.body):
        match two:
            case (
                ast.AnnAssign(target=ast.Name(id=key)),
                ast.Expr(value=ast.Constant(value=str(doc))),
            ):
                yield key, " ".join(doc.split())
