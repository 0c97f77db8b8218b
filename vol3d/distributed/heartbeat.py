"""The heartbeat of a run's processes: one that dies is named, and ends the others within seconds.

A collective operation waits for whoever is missing, on a GPU for minutes or for ever, and nobody says
for whom. So every rank tells a common store that it lives, once a second, and listens.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import NoReturn, Self

from torch.distributed import PrefixStore, TCPStore

EVERY_S = 1.0
SILENT_S = 15.0
"""Silence after which a rank counts as dead; well below the 30 s within which a run must end."""
ASLEEP_S = 5.0
FAREWELL_S = 3.0


class Heartbeat:
    """A thread that speaks for this rank and listens to the others; a context.

    The first rank listens to all, the others to the first. An error in one rank is told to the others,
    who leave without a word of their own.

    Args:
        address, port: of the store, which the first rank or torchrun has opened.
        speaks: whether this one names the first where that is gone; one on each machine.
    """

    def __init__(self, address: str, port: int, rank: int, world: int, speaks: bool) -> None:
        self.rank, self.speaks = rank, speaks
        wait = timedelta(seconds=SILENT_S)
        store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=wait)
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.store = PrefixStore(f"vol3d/{restart}", store)
        self.listens_to = range(1, world) if rank == 0 else [0]
        self.parting = threading.Event()
        self.thread = threading.Thread(target=self.listen, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        name = f"rank {self.rank} ({socket.gethostname()}, pid {os.getpid()})"
        self.store.set(f"name/{self.rank}", name)
        self.store.set(f"beat/{self.rank}", "0")
        self.thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, at: object) -> None:
        self.parting.set()
        self.thread.join(EVERY_S + SILENT_S)
        if kind is None:
            return
        # Somebody has gone, and is named; or all fail alike, and the first rank is the one to say it.
        wait = SILENT_S + FAREWELL_S if is_of_the_connection(error) else FAREWELL_S
        if self.rank > 0 or is_of_the_connection(error):
            self.listen(time.monotonic() + wait)
        self.tell(f"rank {self.rank} has failed")
        time.sleep(FAREWELL_S if self.rank == 0 else 0)  # the store may go with this process

    def part(self, together: Callable[[], object]) -> None:
        """Nobody listens any more once everybody has come to the end."""
        together()
        self.parting.set()
        self.thread.join(EVERY_S + SILENT_S)
        together()

    def listen(self, deadline: float | None = None) -> None:
        """Speak and listen, to the end if there is no deadline; where somebody is missing, end all."""
        heard: dict[int, tuple[str, float]] = {}
        awake = 0.0
        while deadline is None or time.monotonic() < deadline:
            if deadline is None and self.parting.wait(EVERY_S):
                return
            if deadline is not None:
                time.sleep(EVERY_S)
            if time.monotonic() - awake > ASLEEP_S:  # a job that was suspended cannot judge others
                heard = dict.fromkeys(self.listens_to, ("", time.monotonic()))
            try:
                self.turn(heard)
                awake = time.monotonic()
            except Exception:  # the store went with the first rank, or with torchrun
                if not (self.parting.is_set() and deadline is None):
                    self.miss(0, "")

    def turn(self, heard: dict[int, tuple[str, float]]) -> None:
        """Speak once, and listen once; `heard` are the last words of each, and when they came."""
        self.store.set(f"beat/{self.rank}", f"{time.monotonic()}")
        if self.store.check(["over"]):
            time.sleep(2 * FAREWELL_S)  # a launcher ends all at the first exit: let it be told
            leave()
        for rank in self.listens_to:
            beat = self.store.get(f"beat/{rank}").decode()
            if beat != heard[rank][0]:
                heard[rank] = beat, time.monotonic()
            if time.monotonic() - heard[rank][1] > SILENT_S:
                self.miss(rank, self.store.get(f"name/{rank}").decode())

    def miss(self, rank: int, name: str) -> None:
        """Name the rank that is gone, tell the others, and end this process."""
        if self.rank == 0 or self.speaks:
            sys.stderr.write(
                f"vol3d: {name or f'rank {rank}'} has gone without a word: it was killed, its memory "
                f"ran out, or its machine is down; all ranks end. Run again to go on from the newest "
                f"checkpoint\n"
            )
            sys.stderr.flush()
        self.tell(f"rank {rank} is gone")
        time.sleep(FAREWELL_S if self.rank == 0 else 0)
        leave()

    def tell(self, reason: str) -> None:
        """Let the others know that it is over."""
        with contextlib.suppress(Exception):  # there may be nobody left to tell
            self.store.set("over", reason)


def is_of_the_connection(error: BaseException | None) -> bool:
    """Whether an error looks like that of a collective operation that lost its partner."""
    words = ("gloo", "nccl", "closed by peer", "connection reset", "broken pipe", "store")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)


def leave(code: int = 1) -> NoReturn:
    """End this process now.

    Its main thread may be waiting for somebody who is gone. And where its work is done: a thread of
    torch.distributed that asks for the interpreter while that is taken down aborts the process, which
    was seen once in some hundred runs.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)
