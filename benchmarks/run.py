"""Run the benchmark: python -m benchmarks.run --device cpu (`make bench`, `make bench-gpu`).

This process only asks; each measurement is a fresh one (`benchmarks/measure.py`), so what runs out of
memory takes nothing else with it.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.cases import CASES, LIMIT_GIB, MONAI, WHOLE
from benchmarks.table import tables

HERE = Path(__file__).parent
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "33554432",
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""glibc keeps freed memory for later, up to a size that it learns as it goes, at most 32 MiB: then the
high-water mark depends on the order of the calls. With these every tensor above that is given back at
once, and comes in large pages; they hold for all contestants, in times and memory alike."""


class FailedError(Exception):
    """A measurement ended in an error, which it has told."""


class Asker:
    """Asks fresh processes for measurements on one device and at one size."""

    def __init__(self, device: str, size: str) -> None:
        self.common = {"device": device, "size": size}

    def __call__(self, what: str, **more: Any) -> dict[str, Any] | None:
        """The answer; None if it did not fit into memory.

        Raises:
            FailedError: it failed for another reason.
        """
        asked = {"what": what, **self.common, **more}
        print(f"  {what} {more.get('case', '')} {more.get('who', '')}", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.measure", json.dumps(asked)],
            cwd=HERE.parent,
            env={**os.environ, **MALLOC},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode == -signal.SIGKILL:  # the system ran out of memory
            return None
        if done.returncode:
            raise FailedError(f"{what} {more}: failed; its own words are above")
        answer = json.loads(done.stdout.splitlines()[-1])
        return None if "does_not_fit" in answer else answer


def race(ask: Asker, names: list[str]) -> list[dict[str, Any]]:
    """The cases of one race: the peak of each contestant alone, then all that fit in turns."""
    peaks = {w: ask("memory", case=names[0], who=w) for w in (*MONAI, *names)}
    fit = [w for w, peak in peaks.items() if peak is not None]
    told = ask("times", case=names[0], who=fit)
    if told is None:  # each fits alone, but not beside the others' weights
        raise FailedError(f"{', '.join(names)}: no room for the contestants side by side")
    gib = {w: peak["peak_gib"] for w, peak in peaks.items() if peak is not None}
    return [result(name, gib, told) for name in names]


def result(name: str, gib: dict[str, float], told: dict[str, Any]) -> dict[str, Any]:
    """One case, as it is kept; what did not fit is null."""
    called = {"shipped": "shipped", "tuned": "tuned", "vol3d": name}
    all_seconds = {k: told["seconds"].get(w) for k, w in called.items()}
    seconds = {k: median(v) if v else None for k, v in all_seconds.items()}
    peak = {k: gib.get(w) for k, w in called.items()}
    distance = {k: told["distance"].get(w) for k, w in called.items() if k != "shipped"}
    return {
        "name": name,
        "what": CASES[name].what,
        "seconds": seconds,
        "peak_gib": peak,
        **{f"time_ratio_{w}": ratio(seconds[w], seconds["vol3d"]) for w in MONAI},
        **{f"memory_ratio_{w}": ratio(peak["vol3d"], peak[w]) for w in MONAI},
        "distance_to_shipped": distance,
        "tflop": told["tflop"],
        "tflop_per_s": {k: ratio(told["tflop"], s) for k, s in seconds.items()},
        "all_seconds": all_seconds,
    }


def ratio(a: float | None, b: float | None) -> float | None:
    """a / b; None where one of them is."""
    return None if a is None or b is None else a / b


def whole(ask: Asker, name: str) -> dict[str, Any]:
    """A case of ours alone."""
    with TemporaryDirectory() as folder:
        if name == "sample":
            ask("bundle", folder=folder)
        told = ask(name, folder=folder)
    if told is None:
        return {"name": name, "what": WHOLE[name], "seconds": None, "peak_gib": None}
    limit = {"limit_gib": LIMIT_GIB[name]} if name in LIMIT_GIB else {}
    ours = {k: {"vol3d": told.pop(k)} for k in ("seconds", "peak_gib")}
    return {"name": name, "what": WHOLE[name], **ours, **limit, **told}


def run(device: str, size: str, names: list[str], out: Path | None) -> dict[str, Any]:
    """All cases of these names; written after each race, so that nothing is lost."""
    ask, start = Asker(device, size), time.time()
    told = ask("describe")
    if told is None:
        raise FailedError("not even a matrix product fits into memory")
    found = {
        "made": time.strftime("%Y-%m-%d"),
        "device": device,
        "size": size,
        **told,
        "cases": [],
        "failed": [],
    }
    if out is None and size == "full" and set(names) >= set(CASES):
        out = place(found)  # part of the cases, or small ones, do not replace what is kept
    races: dict[tuple, list[str]] = {}
    for name in names:
        races.setdefault(CASES[name].race if name in CASES else (name,), []).append(name)
    for together in races.values():
        print(f"{', '.join(together)} (after {time.time() - start:.0f} s)", file=sys.stderr)
        one = together[0]
        try:
            found["cases"] += race(ask, together) if one in CASES else [whole(ask, one)]
        except FailedError as error:
            print(f"benchmark: {error}", file=sys.stderr)
            found["failed"] += together
        found["minutes"] = round((time.time() - start) / 60, 1)
        if out is not None:
            out.write_text(json.dumps(found, indent=2) + "\n")
    return found


def place(found: dict[str, Any]) -> Path:
    """benchmarks/cpu-NAME.json or gpu-NAME.json, by the processor's name."""
    machine, on_gpu = found["machine"], found["device"].startswith("cuda")
    told = machine["gpu"] if on_gpu else f"{machine['cpu']}-{machine['cores']}-cores"
    name = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", told.lower())).strip("-")
    return HERE / f"{'gpu' if on_gpu else 'cpu'}-{name}.json"


def main(words: list[str] | None = None) -> None:
    """Measure, keep as JSON, print as a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--size", default="full", choices=["full", "small"])
    every = [*CASES, *WHOLE]
    parser.add_argument("--cases", nargs="+", default=every, choices=every, metavar="CASE")
    parser.add_argument("--without", nargs="+", default=[], choices=every, metavar="CASE")
    parser.add_argument(
        "--out",
        type=Path,
        help="where to keep the figures; of all cases, benchmarks/cpu-NAME.json or gpu-NAME.json",
    )
    given = parser.parse_args(words)
    names = [n for n in given.cases if n not in given.without]
    try:
        found = run(given.device, given.size, names, given.out)
    except FailedError as error:
        raise SystemExit(f"benchmark: {error}") from None
    print(tables(found))
    if found["failed"]:
        raise SystemExit(f"benchmark: failed: {', '.join(found['failed'])}")


if __name__ == "__main__":
    main()
