"""An outline of a verb, its settings without the libraries that compute: in it, help takes no seconds.

Settings stand beside the networks they build, in files that import torch and much else. To read settings
it is enough that whatever such a library holds has a name: to inherit from, to decorate with, to be a
type. An outline is read in a process apart, so no process that computes has ever seen such a name.
"""

import os
import sys
from abc import ABCMeta
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn, TypeVar

from vol3d.errors import NameOnlyError

LEFT_OUT = {
    *("torch", "monai", "deepspeed", "einops", "safetensors", "numba", "numpy", "scipy", "pandas"),
    *("nibabel", "SimpleITK", "torchio", "nilearn", "skimage", "matplotlib", "tensorboard"),
    *("mlflow", "rich"),
}
GO_ON = 77
"""Exit code of a process apart that has nothing to say."""
T = TypeVar("T")


def foretold(load: Callable[[], T], tell: Callable[[T], int | None]) -> int | None:
    """Let a process apart tell what can be told from an outline, before anything is loaded.

    Args:
        load: imports what is told of; meanwhile, libraries are names.
        tell: prints it all at once, and gives the exit code; or None where there is nothing to tell.

    Returns:
        The exit code. None where there was nothing to tell, or a library is needed to tell it: go on.
    """
    if "torch" in sys.modules:  # nothing to be gained
        return None
    sys.stdout.flush()
    child = os.fork()
    if child:
        code = GO_ON
        with suppress(ChildProcessError):  # with SIGCHLD ignored, nobody hears what became of it
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code if 0 <= code < GO_ON else None
    code = None
    try:
        sys.meta_path.insert(0, Libraries())
        loaded = load()
        Name.is_closed = True
        code = tell(loaded)
        sys.stdout.flush()
    except BaseException:  # it takes a library, or was interrupted: the other process will say
        pass
    finally:
        os._exit(GO_ON if code is None else code)


class Name(ABCMeta):
    """The class of names: classes themselves, so that networks can inherit from them.

    While files are loaded, all that is got from a name is a name; whoever wants to know more, or to
    compute later, is refused.
    """

    is_closed = False

    def __getattr__(cls, name: str) -> "Name":
        return named(name)

    def __call__(cls, *args: object, **options: object) -> "Name":  # noqa: D102
        return cls.refuse() if Name.is_closed else cls

    def __getitem__(cls, key: object) -> "Name":
        return cls

    def refuse(cls, *args: object) -> NoReturn:
        """A name is worth nothing, holds nothing, and nothing is of its kind."""
        raise NameOnlyError(cls.__name__)

    __bool__ = __str__ = __iter__ = __instancecheck__ = refuse


def named(name: str) -> Name:
    """A name for what a library holds; of what Python itself asks for, it holds nothing."""
    if name.startswith("__"):
        raise AttributeError(name)
    if Name.is_closed:
        raise NameOnlyError(name)
    return Name(name, (), {})


class Library(ModuleType):
    """A module that holds whatever is asked for, in name only."""

    def __getattr__(self, name: str) -> Name:
        return named(name)


class Libraries(MetaPathFinder, Loader):
    """Finds names for the libraries that are left out."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Any module of theirs is there."""
        is_left_out = name.partition(".")[0] in LEFT_OUT
        return ModuleSpec(name, self, is_package=True) if is_left_out else None

    def create_module(self, spec: ModuleSpec) -> Library:
        """A module without a file."""
        return Library(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""
