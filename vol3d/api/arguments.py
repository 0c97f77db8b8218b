"""What Python gives a model's method, held to the rules that the settings of its verb have."""

import inspect
from collections.abc import Callable
from functools import cache, reduce, wraps
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import ConfigDict, create_model

from vol3d.config import Config
from vol3d.errors import ConfigError

Method = TypeVar("Method", bound=Callable[..., Any])


class Arguments(Config):
    """Of a call: settings, and things that only Python has, such as volumes."""

    model_config = ConfigDict(arbitrary_types_allowed=True)


def ruled_by(verb: type[Config] = Config, *settings: str) -> Callable[[Method], Method]:
    """Check each argument before the method runs; what is off is the one line of the command.

    Args:
        verb: that does the same, if there is one.
        settings: arguments that are settings of the verb, with the same rules; the others have their
            types.
    """

    def decorate(method: Method) -> Method:
        signature = inspect.signature(method)
        known = [p for p in signature.parameters.values() if p.name != "self"]
        is_open = any(p.kind == p.VAR_KEYWORD for p in known)

        @cache  # when it is first called: `import vol3d` takes no time
        def rules() -> type[Config]:
            hints = get_type_hints(method, include_extras=True)
            fields = {
                p.name: rule_of(verb, p.name) if p.name in settings else (hints[p.name], None)
                for p in known
                if p.kind != p.VAR_KEYWORD
            }
            return create_model(method.__name__, __base__=Arguments, **fields)

        @wraps(method)
        def call(*given: Any, **named: Any) -> Any:
            others = {n: v for n, v in named.items() if n not in signature.parameters}
            taken = {n: v for n, v in named.items() if n not in others}
            try:
                bound = signature.bind(*given, **taken).arguments
            except TypeError as error:
                raise ConfigError(f"{method.__name__}: {error}") from None
            told = {
                p.name: bound[p.name]
                for p in known
                if p.name in bound and bound[p.name] is not p.default
            }
            found = rules().parse({**told, **({} if is_open else others)})
            checked = {n: getattr(found, n) for n in told}
            itself = [bound["self"]] if "self" in bound else []
            return method(*itself, **checked, **(others if is_open else {}))

        return call

    return decorate


def rule_of(verb: type[Config], name: str) -> tuple[Any, Any]:
    """A setting of a verb as Pydantic takes it: its type with its limits, and None where not given."""
    field = verb.model_fields[name]
    return reduce(
        lambda kind, limit: Annotated[kind, limit], field.metadata, field.annotation
    ), None
