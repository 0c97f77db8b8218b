"""Each verb of the command line as a function: the same words, the same code, the same results."""

from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from vol3d.cli import fill, load_verb
from vol3d.cli.help import help_of


def call_of(name: str) -> Callable[..., Path | list[Path]]:
    """The function of a verb: `call_of("train")("config.yaml", run="runs/1")`."""
    verb = load_verb(name)

    def call(*words: Path | str, **settings: Any) -> Path | list[Path]:
        return fill(name, verb, words, settings).execute()

    words, rest = (
        Parameter(n, kind)
        for n, kind in (("words", Parameter.VAR_POSITIONAL), ("more", Parameter.VAR_KEYWORD))
    )
    named = [
        Parameter(n, Parameter.KEYWORD_ONLY, default=default_of(f))
        for n, f in verb.model_fields.items()
    ]
    call.__signature__ = Signature([words, *named, rest])  # what a notebook completes
    call.__name__ = call.__qualname__ = name
    call.__module__ = "vol3d"
    call.__doc__ = help_of(name, verb)
    return call


def default_of(field: FieldInfo) -> Any:
    """The value of a setting that nobody gives."""
    return Parameter.empty if field.is_required() else field.get_default(call_default_factory=True)
