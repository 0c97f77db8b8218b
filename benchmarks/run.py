"""Run the benchmark: python -m benchmarks.run --device cpu (`make bench`, `make bench-gpu`).

This process only asks; on a CPU each measurement is a fresh one (`benchmarks/measure.py`), so what runs
out of memory takes nothing else with it, and on a GPU, where that is an error like others, one does all.
What is known is written down after every call that was timed and every peak, so whatever ends the run,
a time limit or a signal, takes nothing of that with it.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.cases import CASES, END, LIMIT_GIB, MONAI, SLABS, WHOLE, better
from benchmarks.table import slower, tables

HERE = Path(__file__).parent
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "33554432",
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""glibc keeps freed memory for later, up to a size that it learns as it goes, at most 32 MiB: then the
high-water mark depends on the order of the calls. With these every tensor above that is given back at
once, and comes in large pages; they hold for all contestants, in times and memory alike."""
Told = dict[str, Any]
Ask = Callable[..., Iterator[Told]]
"""`ask(what, **more)`: all that is known so far, again and again; nothing if it does not fit."""


class FailedError(Exception):
    """A measurement ended in an error, which it has told."""


class TimeIsUpError(Exception):
    """The time that the run was given is over."""


class Asker:
    """Asks other processes for measurements on one device and at one size.

    Args:
        device: cpu or cuda.
        size: full or small.
        minutes: after which a measurement is ended, and none begins; None takes all the time it needs.
    """

    def __init__(self, device: str, size: str, minutes: float | None = None) -> None:
        self.common = {"device": device, "size": size}
        self.end = None if minutes is None else time.monotonic() + 60 * minutes
        self.waiting: subprocess.Popen | None = None
        """One that has answered, and can be asked again; it ends with us."""

    def __call__(self, what: str, **more: Any) -> Iterator[Told]:
        """The answers; they end early where memory runs out.

        Raises:
            FailedError: it failed for another reason.
            TimeIsUpError: it was not begun, or was ended.
        """
        asked = {"what": what, **self.common, **more}
        left = None if self.end is None else self.end - time.monotonic()
        if left is not None and left <= 0:
            raise TimeIsUpError
        print(f"  {what} {more.get('case', '')} {more.get('who', '')}", file=sys.stderr, flush=True)
        child, self.waiting = self.waiting or begun(), None
        clock = threading.Timer(left or 0, child.kill)
        try:
            if left is not None:
                clock.start()
            yield from self.answers(child, asked)
            if self.waiting is None:
                child.stdin.close()
                child.wait()
        finally:
            clock.cancel()
            if self.waiting is None:
                child.kill()  # if whoever asked has heard enough
                child.wait()
        if self.end is not None and time.monotonic() >= self.end:
            raise TimeIsUpError
        if child.returncode not in (None, 0, -signal.SIGKILL):  # the last is memory that ran out
            raise FailedError(f"{what} {more}: failed; its own words are above")

    def answers(self, child: subprocess.Popen, asked: Told) -> Iterator[Told]:
        """What a process tells, which on a GPU then waits for more."""
        child.stdin.write(json.dumps(asked) + "\n")
        child.stdin.flush()
        for line in child.stdout:
            if line.strip() == END:
                if self.common["device"].startswith("cuda"):
                    self.waiting = child
                return
            if not line.startswith("{"):  # a library's own words
                print(line, end="", file=sys.stderr)
            elif "does_not_fit" not in (told := json.loads(line)):
                yield told


def begun() -> subprocess.Popen:
    """A process that measures."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.measure"],
        cwd=HERE.parent,
        env={**os.environ, **MALLOC},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def race(ask: Ask, names: list[str], device: str) -> Iterator[list[Told]]:
    """The cases of one race, as far as they are known: peaks of each alone, then all in turns."""
    everyone, gib, told = [*MONAI, *names], {}, None
    if device.startswith("cuda"):
        for told in ask("both", case=names[0], who=everyone):
            yield [result(name, told["peak_gib"], told) for name in names]
    else:
        for who in everyone:
            for peak in ask("memory", case=names[0], who=who):
                gib |= peak["peak_gib"]
                yield [result(name, gib, {}) for name in names]
        for told in ask("times", case=names[0], who=[w for w in everyone if w in gib]):
            yield [result(name, gib, told) for name in names]
    if told is None or "seconds" not in told:  # a contestant may fit alone, but not beside others
        raise FailedError(f"{', '.join(names)}: no room for the contestants side by side")


def result(name: str, gib: dict[str, float], told: Told) -> Told:
    """One case, as it is kept; what did not fit, or is not known yet, is null."""
    called = {"shipped": "shipped", "tuned": "tuned", "vol3d": name}
    all_seconds = {k: told.get("seconds", {}).get(w) for k, w in called.items()}
    seconds = {k: median(v) if v else None for k, v in all_seconds.items()}
    peak = {k: gib.get(w) for k, w in called.items()}
    distance = {k: told.get("distance", {}).get(w) for k, w in called.items() if k != "shipped"}
    of, tflop = better(seconds), told.get("tflop")
    return {
        "name": name,
        "what": CASES[name].what,
        "seconds": seconds,
        "peak_gib": peak,
        "better": of,
        **{f"time_ratio_{w}": ratio(seconds[w], seconds["vol3d"]) for w in MONAI},
        **{f"memory_ratio_{w}": ratio(peak["vol3d"], peak[w]) for w in MONAI},
        "distance_to_shipped": distance,
        "tflop": tflop,
        "tflop_per_s": {k: ratio(tflop, s) for k, s in seconds.items()},
        "all_seconds": all_seconds,
    }


def ratio(a: float | None, b: float | None) -> float | None:
    """a / b; None where one of them is."""
    return None if a is None or not b else a / b  # a peak is 0 where all was resident before


def last(answers: Iterator[Told]) -> Told | None:
    """The whole answer; None if it did not fit into memory."""
    told = None
    for answer in answers:
        told = answer
    return told


def whole(ask: Ask, name: str) -> Iterator[list[Told]]:
    """A case of ours alone."""
    with TemporaryDirectory() as folder:
        if name == "sample":
            last(ask("bundle", folder=folder))
        told = last(ask(name, folder=folder))
    if told is None:
        yield [{"name": name, "what": WHOLE[name], "seconds": None, "peak_gib": None}]
        return
    limit = {"limit_gib": LIMIT_GIB[name]} if name in LIMIT_GIB else {}
    ours = {k: {"vol3d": told.pop(k)} for k in ("seconds", "peak_gib")}
    yield [{"name": name, "what": WHOLE[name], **ours, **limit, **told}]


def slabs(ask: Ask) -> Iterator[list[Told]]:
    """Ours with slabs of several sizes."""
    for told in ask(SLABS):
        yield [{"name": SLABS, "what": "sizes of slabs", **told}]


def run(ask: Ask, device: str, size: str, names: list[str], out: Path | None) -> Told:
    """All cases of these names, written as soon as anything of them is known.

    Args:
        ask: measures.
        device: cpu or cuda.
        size: full or small.
        names: of the cases.
        out: where to write; None is nowhere, but all cases at full size have a place of their own.

    Raises:
        FailedError: not even the machine can be described.
    """
    start, told = time.time(), last(ask("describe"))
    if told is None:
        raise FailedError("not even a matrix product fits into memory")
    found = {
        "made": time.strftime("%Y-%m-%d"),
        "device": device,
        "size": size,
        **told,
        "cases": [],
        "failed": [],
        "unfinished": [],
    }
    if out is None and size == "full" and set(names) >= set(CASES):
        out = place(found)  # part of the cases, or small ones, do not replace what is kept
    races = together(names)
    for i, alike in enumerate(races):
        print(f"{', '.join(alike)} (after {time.time() - start:.0f} s)", file=sys.stderr)
        before = found["cases"]
        found["unfinished"] = [name for others in races[i:] for name in others]
        try:
            for cases in measured(ask, alike, device):
                found["cases"] = [*before, *cases]
                keep(found, out, start)
        except FailedError as error:
            print(f"benchmark: {error}", file=sys.stderr)
            found["failed"] += alike
        except TimeIsUpError:
            break
        found["unfinished"] = found["unfinished"][len(alike) :]
        keep(found, out, start)
    return found


def together(names: list[str]) -> list[list[str]]:
    """The cases that share a race, in order."""
    races: dict[tuple, list[str]] = {}
    for name in names:
        races.setdefault(CASES[name].race if name in CASES else (name,), []).append(name)
    return list(races.values())


def measured(ask: Ask, alike: list[str], device: str) -> Iterator[list[Told]]:
    """The results of cases that go together, as far as they are known."""
    if alike == [SLABS]:
        return slabs(ask)
    return race(ask, alike, device) if alike[0] in CASES else whole(ask, alike[0])


def keep(found: Told, out: Path | None, start: float) -> None:
    """Write what is known, whole or not at all."""
    found["minutes"] = round((time.time() - start) / 60, 1)
    if out is not None:
        part = out.with_name(f".{out.name}.part")
        part.write_text(json.dumps(found, indent=2) + "\n")
        part.replace(out)


def place(found: Told) -> Path:
    """benchmarks/cpu-CLASS-NAME.json or gpu-CLASS-NAME.json, by the processor's class and name."""
    machine = found["machine"]
    told = machine.get("gpu") or f"{machine['cpu']}-{machine['cores']}-cores"
    name = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", told.lower())).strip("-")
    return HERE / f"{machine['class']}-{name}.json"


def leave(number: int, frame: object) -> None:
    """End on a signal; whatever is being measured ends too."""
    raise SystemExit(128 + number)


def main(words: list[str] | None = None) -> None:
    """Measure, keep as JSON, print as a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--size", default="full", choices=["full", "small"])
    every = [*CASES, SLABS, *WHOLE]
    parser.add_argument(
        "--cases", nargs="+", choices=every, metavar="CASE", help=f"of {', '.join(every)}"
    )
    parser.add_argument("--without", nargs="+", default=[], choices=every, metavar="CASE")
    parser.add_argument("--minutes", type=float, help="to end after; what is known is kept")
    parser.add_argument(
        "--out",
        type=Path,
        help="where to keep the figures; of all cases, benchmarks/CLASS-NAME.json",
    )
    given = parser.parse_args(words)
    usual = [n for n in every if n != SLABS or given.device.startswith("cuda")]
    names = [n for n in given.cases or usual if n not in given.without]
    signal.signal(signal.SIGTERM, leave)
    try:
        ask = Asker(given.device, given.size, given.minutes)
        found = run(ask, given.device, given.size, names, given.out)
    except (FailedError, TimeIsUpError) as error:
        raise SystemExit(f"benchmark: {error}") from None
    print(tables(found))
    told = {"failed": found["failed"], "unfinished, for want of time": found["unfinished"]}
    if given.size == "full":
        told["slower than MONAI as shipped"] = slower(found["cases"])
    if wrong := [f"{what}: {', '.join(names)}" for what, names in told.items() if names]:
        raise SystemExit(f"benchmark: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
