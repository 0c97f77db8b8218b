"""Work that tells how far it is, and ends where it is told to: what runs beside the window."""

import threading
from collections.abc import Callable
from typing import Any


class StoppedError(Exception):
    """The work was stopped, as somebody wished; nothing has failed."""


Tell = Callable[[float, str, Any], None]
"""`tell(share, words, shown)`: how much is done, 0 to 1, on what, and what can be shown by now."""


class Teller:
    """What work is handed: it tells how far it is by calling this, which ends it once it is to stop.

    Args:
        heard: is told the same, in the thread of the work.
    """

    def __init__(self, heard: Tell) -> None:
        self.heard, self.ends = heard, threading.Event()

    def stop(self) -> None:
        """Let the work end when it tells something next; any thread may call this."""
        self.ends.set()

    def check(self) -> None:
        """End here, if it is to stop.

        Raises:
            StoppedError: it is.
        """
        if self.ends.is_set():
            raise StoppedError

    def __call__(self, share: float, words: str = "", shown: Any = None) -> None:
        """See `Tell`."""
        self.check()
        self.heard(min(max(share, 0.0), 1.0), words, shown)


class Latest:
    """What was told last, until somebody takes it: who shows it may be slower than who tells it.

    Of things with a `number`, such as several samples, the newest of each is kept.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.told: tuple[float, str] | None = None
        self.shown: dict[int, Any] = {}

    def put(self, share: float, words: str, shown: Any) -> bool:
        """Keep it, and say whether nothing was waiting to be taken."""
        with self.lock:
            was_empty = self.told is None
            self.told = share, words
            if shown is not None:
                self.shown[getattr(shown, "number", 0)] = shown
        return was_empty

    def take(self) -> tuple[float, str, list[Any]]:
        """All that is there; somebody has put it."""
        with self.lock:
            share, words = self.told
            shown = [*self.shown.values()]
            self.told, self.shown = None, {}
        return share, words, shown
