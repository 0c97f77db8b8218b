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
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vol3d import __version__
from vol3d.errors import ConfigError, ElsewhereError, Vol3dError
from vol3d.io.text import on_one_line, visible

# What takes a while to load is imported where it is used.
VERBS = Path(__file__).parent.parent / "verbs"
LATER_S = 2.0
HELP, DRY_RUN = ("-h", "--help"), "--dry-run"
OVERVIEW = """\
vol3d: learn a generator of 3-D brain MRI from your own scans, and use it

vol3d VERB [CONFIG.yaml | POSITIONAL ...] [key=value ...]

{verbs}

vol3d VERB --help      the settings of a verb, its groups by name
vol3d VERB --help all  every setting; with a group's name, what is in that group
vol3d VERB --dry-run   print the settings, refuse what the verb would, and stop (check, doctor, import,
                       inpaint, restore and sample-cohort check their settings alone)
vol3d --version
"""


def main(arguments: list[str] | None = None) -> None:
    """Run one verb. Exit code 0; 1 for a failure, 2 for misuse, each with one line on stderr."""
    code = outcome(sys.argv[1:] if arguments is None else arguments)
    together = "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"
    if together and arguments is None:
        from vol3d.distributed.heartbeat import leave

        leave(code)
    if code:
        sys.exit(code)


def outcome(arguments: list[str]) -> int:
    """Run one verb; the exit code."""
    try:
        return dispatch(arguments)
    except Vol3dError as error:
        if not isinstance(error, ElsewhereError):  # which has been said
            say(error)
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("vol3d: stopped\n")
        return 130
    except BrokenPipeError:
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        say(f"{error.filename}: {error.strerror}")  # no permission, or the disk is full
        return 1


def say(error: Exception | str) -> None:
    """One line; of several processes with the same to say, the first is heard and ends the others."""
    rank = int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)
    time.sleep(LATER_S if rank else 0)
    sys.stderr.write(f"vol3d: {f'rank {rank}: ' if rank else ''}{on_one_line(error)}\n")


def dispatch(arguments: list[str]) -> int:
    """Help, version, or a verb; the exit code."""
    # The deepspeed launcher adds this, and says the same in the environment.
    arguments = [a for a in arguments if not a.startswith("--local_rank=")]
    if not arguments or arguments[0] in HELP or arguments[0] == "help":
        return show(overview())
    name, *words = arguments
    if name == "--version":
        return show(f"vol3d {__version__}\n")
    if name not in (known := verbs()):
        from vol3d.config import did_you_mean

        near = did_you_mean(name, list(known))
        raise ConfigError(f"unknown verb '{name}'.{near} Known: {', '.join(known)}.")
    warnings.filterwarnings("ignore", module=r"(?!vol3d).*")  # the chatter of libraries

    from vol3d.cli.fast_help import foretold

    told = foretold(lambda: load_verb(name), lambda verb: tell(name, verb, words))
    return run(name, words) if told is None else told


def tell(name: str, verb: type, words: list[str]) -> int | None:
    """Print the help that is asked for, or what is wrong with the words; None where all is well."""
    try:
        found = read(name, verb, words)
    except Vol3dError as error:
        say(error)
        return error.exit_code
    return show(found) if isinstance(found, str) else None


def run(name: str, words: list[str]) -> int:
    """Run a verb, or print its settings or its help."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Visible())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    found = read(name, load_verb(name), words)
    if isinstance(found, str):
        return show(found)
    if DRY_RUN in words:
        from omegaconf import OmegaConf

        show(OmegaConf.to_yaml(OmegaConf.create(found.dump())))
        if hasattr(found, "foresee"):
            found.foresee()
        return 0
    result = found.execute()
    return show("".join(f"{path}\n" for path in (result if isinstance(result, list) else [result])))


class Visible(logging.Formatter):
    """The message alone, in which nothing steers the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return visible(super().format(record))


def show(text: str) -> int:
    """Print a result; the exit code."""
    sys.stdout.write(visible(text))
    return 0


def read(name: str, verb: type, words: list[str]):
    """The verb's settings from its words; or the help that they ask for, perhaps on a topic."""
    if asked := [i for i, word in enumerate(words) if word in HELP]:
        from vol3d.cli.help import help_of

        return help_of(name, verb, *words[asked[0] + 1 :][:1])
    return fill(name, verb, [word for word in words if word != DRY_RUN])


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
    return OVERVIEW.format(verbs="\n".join(rows))


def load_verb(name: str) -> type:
    """The one class of a verb's file that can be executed."""
    file = name.replace("-", "_") + "_" * keyword.iskeyword(name)  # import is in import_.py
    module = importlib.import_module(f"vol3d.verbs.{file}")
    return next(
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if c.__module__ == module.__name__ and "execute" in vars(c)
    )


def fill(
    name: str, verb: type, arguments: Sequence[Path | str], given: Mapping[str, Any] | None = None
):
    """The verb's settings from its words: YAML files, positional values, then key=value.

    Args:
        name: of the verb.
        verb: its settings.
        arguments: words; a Path is a file or a folder, whatever its name. Python may also give a list
            where one setting takes several.
        given: settings that Python gives as values, on top of the words.

    Of a verb that `goes_on`, the last positional setting takes any number of words.
    """
    from vol3d.config import lay, parse_override, read_yaml, several

    settings: dict = {}
    are_settings = [isinstance(word, str) and "=" in word for word in arguments]
    words = list(zip(arguments, are_settings, strict=True))
    named = {word.partition("=")[0] for word, is_setting in words if is_setting} | {*(given or {})}
    positional = [name for name in verb.positional if name not in named]
    for word, is_setting in words:
        if isinstance(word, str) and word.startswith("-"):
            raise ConfigError(f"'{word}': settings are given as key=value; see vol3d {name} --help")
        if str(word).endswith((".yaml", ".yml")) and not is_setting:
            settings = lay(settings, read_yaml(Path(word)))
        elif is_setting:
            settings = lay(settings, parse_override(word))
        elif positional:
            settings = lay(settings, {positional.pop(0): word})
        elif getattr(verb, "goes_on", False) and (last := verb.positional[-1]) not in named:
            settings[last] = [*several(settings[last]), word]
        else:
            takes = " ".join(p.upper() for p in verb.positional) or "CONFIG.yaml"
            raise ConfigError(
                f"'{on_one_line(word)}': is one word too many; vol3d {name} takes {takes}, then key=value"
            )
    return verb.parse(lay(settings, dict(given or {})))
