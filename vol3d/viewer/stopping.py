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
