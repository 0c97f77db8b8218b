"""Lines of a report: a check yields names and values, and one that fails says so in a line."""

import getpass
import platform
import re
import shutil
import subprocess
from collections.abc import Generator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vol3d.errors import RunError

Lines = Generator[tuple[str, str], None, None]
GIB = 2**30
FAILED = "failed: "


def told(lines: Lines, name: str | None = None) -> Lines:
    """The lines; where they break off, the reason as the last one."""
    try:
        yield from lines
    except Exception as error:  # whatever is broken on the machine that is looked at
        yield name or lines.__name__, FAILED + reason(error)


def reason(error: Exception) -> str:
    """What an error says, in one line, without the path of a file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, RunError) else f"{type(error).__name__}: {first}"


def ask(program: str, *words: str, seconds: float = 20) -> str | None:
    """What a program says; None where there is none; a RunError where it fails or is slow."""
    if shutil.which(program) is None:
        return None
    name = Path(program).name
    try:
        done = subprocess.run(
            [program, *words], capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"{name} did not answer within {seconds:.0f} s") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no words").splitlines()[-1]
        raise RunError(f"{name} ended with {done.returncode}: {last}")
    return done.stdout.rstrip()


def version_of(package: str) -> str | None:
    """Of an installed package; nothing is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def scrubbed(text: str) -> str:
    """Without what a public report need not say: folders, person, host, hardware addresses."""
    text = re.sub(r"(?<![\w.])/(?:[^\s/:'\"]+/)+", ".../", text)
    if host := platform.node().split(".")[0]:
        text = re.sub(rf"(?<!\w){re.escape(host)}(\.[\w-]+)*(?!\w)", "HOST", text)
    with suppress(Exception):  # a container may have no such user
        if (user := getpass.getuser()) != "root":
            text = re.sub(rf"(?<!\w){re.escape(user)}(?!\w)", "USER", text)
    return re.sub(r"\b(enx|([0-9a-f]{2}:){5})[0-9a-f]{2,12}\b", "ADDRESS", text)
