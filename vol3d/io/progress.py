"""Progress on stderr: a bar with the time left on a terminal, a line now and then in a log file."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
LINE_EVERY_S = 15.0
Heard = Callable[[str, int, int], None]
"""`heard(title, done, total)`: told by each bar as it moves; what it raises ends the work."""
HEARER: ContextVar[Heard | None] = ContextVar("HEARER", default=None)


@contextmanager
def heard_by(heard: Heard) -> Iterator[None]:
    """Bars of this thread tell somebody else as well, such as a window, how far they are."""
    token = HEARER.set(heard)
    try:
        yield
    finally:
        HEARER.reset(token)


class Bar:
    """A progress bar as a context; `advance` moves it, `say` sets the words at its end."""

    def __init__(self, title: str, total: int, done: int = 0, silent: bool = False) -> None:
        self.title, self.total, self.done, self.began_at = title, total, done, done
        self.words, self.silent = "", silent
        self.start = self.last_line = time.monotonic()
        self.told: tuple[int, str] | None = None
        self.live = None
        if sys.stderr.isatty() and not silent:
            self.live = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[words]}"),
                console=Console(stderr=True),
            )
            self.task = self.live.add_task(title, total=total, completed=done, words="")

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()
        elif self.total and self.told != (self.done, self.words):
            self.line()

    def say(self, words: str) -> None:
        """Set the words at the end of the bar."""
        self.words = words
        self.show()

    def advance(self, by: int = 1) -> None:
        """Move the bar."""
        self.done += by
        self.show()

    def show(self) -> None:
        """The bar as it is now; in a log file, a line if the last one was a while ago."""
        if (heard := HEARER.get()) and not self.silent:
            heard(self.title, self.done, self.total)
        if self.live:
            self.live.update(self.task, completed=self.done, words=self.words)
        elif time.monotonic() - self.last_line >= LINE_EVERY_S:
            self.line()

    def line(self) -> None:
        """One plain line."""
        if self.silent:
            return
        self.last_line, self.told = time.monotonic(), (self.done, self.words)
        taken = self.last_line - self.start
        text = f"{self.title}: {self.done}/{self.total}, {taken:.0f} s"
        if moved := self.done - self.began_at:  # before, it would be a guess
            text += f", {taken / moved * (self.total - self.done):.0f} s left"
        sys.stderr.write(f"{text}{', ' if self.words else ''}{self.words}\n")
        sys.stderr.flush()


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """The items, with a bar that moves after each."""
    items = list(items) if total is None else items
    with Bar(title, len(items) if total is None else total) as bar:
        for item in items:
            yield item
            bar.advance()
