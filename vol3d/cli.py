"""The command line: finds the verb, fills its settings, runs it; no logic of its own.

`vol3d VERB POSITIONAL... key=value ...`. Results are printed on stdout, everything else on stderr.
"""

import ast
import importlib
import inspect
import keyword
import logging
import os
import sys
import time
from pathlib import Path

VERBS = Path(__file__).parent / "verbs"
LATER_S = 2.0


def main(arguments: list[str] | None = None) -> None:
    """Run one verb. Exit code 0; 1 for a failure, 2 for misuse, each with one line on stderr."""
    code = outcome(sys.argv[1:] if arguments is None else arguments)
    together = "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"
    if together and arguments is None:
        from vol3d.roll_call import leave

        leave(code)
    if code:
        sys.exit(code)


def outcome(arguments: list[str]) -> int:
    """Run one verb; the exit code."""
    from vol3d.errors import ElsewhereError, Vol3dError

    try:
        dispatch(arguments)
    except ElsewhereError as error:
        return error.exit_code
    except Vol3dError as error:
        say(error)
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("vol3d: stopped\n")
        return 130
    except BrokenPipeError:
        return 1
    return 0


def say(error: Exception) -> None:
    """One line; of several processes with the same to say, the first is heard and ends the others."""
    rank = int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)
    time.sleep(LATER_S if rank else 0)
    sys.stderr.write(f"vol3d: {f'rank {rank}: ' if rank else ''}{error}\n")


def dispatch(arguments: list[str]) -> None:
    """Help, version, or a verb."""
    from vol3d import __version__
    from vol3d.errors import ConfigError

    # The deepspeed launcher adds this, and says the same in the environment.
    arguments = [a for a in arguments if not a.startswith("--local_rank=")]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return
    name, *rest = arguments
    if name == "--version":
        sys.stdout.write(f"vol3d {__version__}\n")
        return
    if name not in verbs():
        from vol3d.config import did_you_mean

        raise ConfigError(
            f"unknown verb '{name}'.{did_you_mean(name, list(verbs()))} "
            f"Known: {', '.join(verbs())}."
        )
    quiet_libraries()
    verb = load_verb(name)
    if any(a in ("-h", "--help") for a in rest):
        sys.stdout.write(help_of(name, verb))
        return
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s", force=True)
    settings = fill(name, verb, [a for a in rest if a != "--dry-run"])
    if "--dry-run" in rest:
        from omegaconf import OmegaConf

        sys.stdout.write(OmegaConf.to_yaml(OmegaConf.create(settings.dump())))
        if hasattr(settings, "foresee"):
            settings.foresee()
        return
    result = settings.execute()
    for path in result if isinstance(result, list) else [result]:
        sys.stdout.write(f"{path}\n")


def verbs() -> dict[str, str]:
    """Each verb with the first sentence of its file; nothing is imported for it."""
    found = {}
    for path in sorted(VERBS.glob("[a-z]*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        found[path.stem.rstrip("_").replace("_", "-")] = doc.splitlines()[0]
    return found


def overview() -> str:
    """What `vol3d --help` prints."""
    rows = [f"  {name:15s}{doc}" for name, doc in verbs().items()]
    return "\n".join(
        [
            "vol3d: learn a generator of 3-D brain MRI from your own scans, and use it",
            "",
            "vol3d VERB [CONFIG.yaml | POSITIONAL ...] [key=value ...]",
            "",
            *rows,
            "",
            "vol3d VERB --help     the settings of a verb",
            "vol3d VERB --dry-run  print the settings and stop",
            "vol3d --version",
            "",
        ]
    )


def load_verb(name: str) -> type:
    """The one class of a verb's file that can be executed."""
    file = name.replace("-", "_") + "_" * keyword.iskeyword(name)  # import is in import_.py
    module = importlib.import_module(f"vol3d.verbs.{file}")
    return next(
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if c.__module__ == module.__name__ and hasattr(c, "execute")
    )


def fill(name: str, verb: type, arguments: list[str]):
    """The verb's settings from its words: YAML files, positional values, then key=value."""
    from vol3d.config import lay, parse_override, read_yaml
    from vol3d.errors import ConfigError

    settings: dict = {}
    positional = list(verb.positional)
    for word in arguments:
        if word.startswith("-"):
            raise ConfigError(f"'{word}': settings are given as key=value; see vol3d {name} --help")
        if word.endswith((".yaml", ".yml")) and "=" not in word:
            settings = lay(settings, read_yaml(Path(word)))
        elif "=" in word:
            settings = lay(settings, parse_override(word))
        elif positional:
            settings = lay(settings, {positional.pop(0): word})
        else:
            takes = " ".join(p.upper() for p in verb.positional) or "CONFIG.yaml"
            raise ConfigError(
                f"'{word}': is one word too many; vol3d {name} takes {takes}, then key=value"
            )
    return verb.parse(settings)


def help_of(name: str, verb: type) -> str:
    """What `vol3d VERB --help` prints: every setting with its default and its doc string."""
    lines = [
        inspect.cleandoc(verb.__doc__),
        "",
        f"vol3d {name} {' '.join(p.upper() for p in verb.positional) or 'CONFIG.yaml'} "
        f"[key=value ...]",
        "",
    ]
    return "\n".join(lines + describe(verb, "")) + "\n"


def describe(config: type, prefix: str) -> list[str]:
    """A line a setting; groups are indented under their name, menus are listed."""
    from vol3d.config import configs_in, entries_in, kinds_of

    lines = []
    for key, field in config.model_fields.items():
        if key == "kind":
            continue
        doc = " ".join((field.description or "").split())
        named = entries_in(field.annotation)
        menu, inner = named or configs_in(field.annotation), f"{prefix}{key}{'.NAME' * bool(named)}"
        default = (
            ""
            if field.is_required() or menu
            else f" [{plain(field.get_default(call_default_factory=True))}]"
        )
        needed = " (needed)" if field.is_required() else ""
        lines.append(f"  {prefix}{key}{default}{needed}: {doc}")
        if len(menu) == 1:
            lines += describe(menu[0], f"{inner}.")
        for choice in menu if len(menu) > 1 else []:
            lines.append(
                f"  {inner}={kinds_of(choice)[0]}: {(choice.__doc__ or '').splitlines()[0]}"
            )
            lines += [f"  {line}" for line in describe(choice, f"{inner}.")]
    return lines


def plain(value: object) -> str:
    """A default as one would type it."""
    return "null" if value is None else str(value)


def quiet_libraries() -> None:
    """Keep third-party chatter off the terminal; our own warnings stay."""
    import warnings

    warnings.filterwarnings("ignore", module=r"(?!vol3d).*")


if __name__ == "__main__":
    main()
