"""Scans prepared side by side, in processes that tell which stage they are at."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection

from vol3d.data.preparation.derivatives import Place, prepare_and_write
from vol3d.data.preparation.pipeline import Steps
from vol3d.data.visit import Visit

LOOK_EVERY_S = 0.5
OnStage = Callable[[str, str], None]
"""Told a scan's name and the stage that begins."""
PARENT: list[Connection] = []
"""In a process of the pool: where to tell. A message is one short write, so none needs to wait."""


def side_by_side(
    scans: list[Visit], place: Place, steps: Steps, jobs: int, on_stage: OnStage
) -> Iterator[tuple[Visit, str | None]]:
    """Prepare scans, so many at a time; each, as it is done, with why it failed, or None."""
    if jobs == 1:
        for s in scans:
            yield s, prepare_and_write(s, place, steps, partial(on_stage, s.name))
        return
    # A fresh interpreter: ITK's and torch's threads do not survive a fork.
    context = get_context("spawn")
    told, tell = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(jobs, context, initializer=begin, initargs=(tell,))
    try:
        under_way = {pool.submit(one, s, place, steps): s for s in scans}
        while under_way:
            done, _ = wait(under_way, LOOK_EVERY_S, FIRST_COMPLETED)
            while told.poll():
                on_stage(*told.recv())
            for future in done:
                died = future.exception()
                reason = f"its process died ({died}); run again with fewer jobs" if died else None
                yield under_way.pop(future), reason or future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def begin(tell: Connection) -> None:
    """Begin a process of the pool."""
    PARENT.append(tell)


def one(scan: Visit, place: Place, steps: Steps) -> str | None:
    """Prepare a scan in a process of the pool."""
    return prepare_and_write(scan, place, steps, lambda stage: PARENT[0].send((scan.name, stage)))
