"""The figures as Markdown: python -m benchmarks.table FILE [--into docs/performance.md].

With `--into`, the part of the page between `<!-- FILE -->` and `<!-- end -->` is replaced, where FILE is
the name of the file of figures; a page that has no such part gets one at its end.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.cases import better

NONE = "–"


def tables(found: dict[str, Any]) -> str:
    """The machine in a sentence, then a table a kind of case."""
    raced = [c for c in found["cases"] if "time_ratio_tuned" in c]
    swept = [c for c in found["cases"] if "slabs" in c]
    alone = [c for c in found["cases"] if c not in raced and c not in swept]
    parts = [machine(found)]
    if raced:
        parts += [times(raced), verdict(raced), memory(raced), accuracy(raced), speed(raced, found)]
    if alone:
        parts.append(ours_alone(alone))
    parts += [slabs(c) for c in swept]
    if unfinished := found.get("unfinished"):
        parts.append(f"Cut off before all turns were done: {', '.join(unfinished)}.")
    return "\n\n".join(parts)


def machine(found: dict[str, Any]) -> str:
    """What it ran on."""
    m, product = found["machine"], found.get("matrix_product")
    where = f"{m['cpu']}, {m['threads']} threads, {m['memory_gib']:g} GiB"
    if "gpu" in m:
        where = f"{m['gpu']} ({m['gpu_memory_gib']:g} GiB), CUDA {m['cuda']}; {where}"
    capped = "".join(f", {k}={v}" for k, v in m.get("capped", {}).items())
    told = (
        f"{where} ({' '.join(m['flags'])}{capped}); torch {m['torch']}, MONAI {m['monai']}, "
        f"vol3d {m['vol3d']} at {m['commit']}; {found['made']}."
    )
    if "precision" in m:
        told += " " + "; ".join(f"{who}: {what}" for who, what in m["precision"].items()) + "."
    if product is not None:
        kind = {"bf16": "bf16", "fp32": "float32"}[product.get("precision", "bf16")]
        told += f" A {kind} matrix product ({product['n']}³): {product['tflop_per_s']:.3g} TFLOP/s."
    if found["size"] != "full":
        told += f" Size: {found['size']}, which says nothing of speed."
    return told


def times(cases: list[dict[str, Any]]) -> str:
    """Medians in seconds, and MONAI's over ours."""
    head = [
        "case",
        "MONAI shipped",
        "MONAI tuned",
        "vol3d",
        "faster than shipped",
        "than the better",
    ]
    return grid(
        head,
        [
            [
                f"{c['name']}: {c['what']}",
                *(shown(c["seconds"][w], " s") for w in ("shipped", "tuned", "vol3d")),
                *(shown(c.get(f"time_ratio_{w}"), "×") for w in ("shipped", better(c["seconds"]))),
            ]
            for c in cases
        ],
    )


def slower(cases: list[dict[str, Any]]) -> list[str]:
    """The cases, each a setting of ours, that take longer than MONAI as shipped."""
    return [c["name"] for c in cases if (c.get("time_ratio_shipped") or 1) < 1]


def verdict(cases: list[dict[str, Any]]) -> str:
    """Whether any setting is slower than MONAI as shipped."""
    names = slower(cases)
    if names:
        return f"**Slower than MONAI as shipped: {', '.join(names)}.**"
    timed = [c for c in cases if c["time_ratio_shipped"]]
    return f"Slower than MONAI as shipped: none of the {len(timed)} settings that were timed."


def memory(cases: list[dict[str, Any]]) -> str:
    """Peaks in GiB, and ours over MONAI's; the better is the one that was faster."""
    head = ["peak memory", "MONAI shipped", "MONAI tuned", "vol3d", "of shipped", "of the better"]
    return grid(
        head,
        [
            [
                c["name"],
                *(shown(c["peak_gib"][w], " GiB") for w in ("shipped", "tuned", "vol3d")),
                *(
                    shown(c.get(f"memory_ratio_{w}"), "×")
                    for w in ("shipped", better(c["seconds"]))
                ),
            ]
            for c in cases
        ],
    )


def accuracy(cases: list[dict[str, Any]]) -> str:
    """Relative distances to what MONAI gives as shipped."""
    rows = [
        [
            f"{c['name']}: {what}",
            *(shown((c["distance_to_shipped"][w] or {}).get(key)) for w in ("tuned", "vol3d")),
        ]
        for c in cases
        for key, what in (
            ("output", "output"),
            ("gradient_median", "gradient, median over convolutions"),
            ("gradient_largest", "gradient, largest"),
        )
        if key == "output" or c["name"].startswith("train")
    ]
    return grid(["relative distance to MONAI shipped", "MONAI tuned", "vol3d"], rows)


def speed(cases: list[dict[str, Any]], found: dict[str, Any]) -> str:
    """Useful operations a second, and the share of what a matrix product reaches."""
    best = found.get("matrix_product", {}).get("tflop_per_s", float("inf"))

    def cell(rate: float | None) -> str:
        return NONE if rate is None else f"{rate:.3g} ({rate / best:.0%})"

    rows = [
        [c["name"], shown(c["tflop"]), *(cell(c["tflop_per_s"][w]) for w in c["tflop_per_s"])]
        for c in cases
    ]
    head = ["TFLOP/s (of the matrix product)", "TFLOP", "MONAI shipped", "MONAI tuned", "vol3d"]
    return grid(head, rows)


def ours_alone(cases: list[dict[str, Any]]) -> str:
    """What MONAI does not do in one piece."""
    rows = []
    for c in cases:
        seconds, peak = (c[k] and c[k]["vol3d"] for k in ("seconds", "peak_gib"))
        limit = f" (limit {c['limit_gib']:g})" if "limit_gib" in c else ""
        rows.append(
            [f"{c['name']}: {c['what']}", shown(seconds, " s"), shown(peak, " GiB") + limit]
        )
        if c.get("seconds_guided"):
            calls = f"{c['name']}: guided, {c['network_calls_guided']} network calls"
            rows.append([calls, shown(c["seconds_guided"], " s"), ""])
    return grid(["vol3d alone", "time", "peak memory"], rows)


def slabs(case: dict[str, Any]) -> str:
    """Times and peaks by the size of slabs."""
    usual = case["usual_mib"]
    rows = [
        [
            name,
            f"{told['mib']:g} MiB{', the usual' if told['mib'] == usual else ''}",
            shown(told["seconds"], " s"),
            shown(told.get("peak_gib"), " GiB"),
        ]
        for name, all_of in case["slabs"].items()
        for told in all_of
    ]
    return grid(["slabs of", "at most", "time", "peak memory"], rows)


def grid(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def shown(value: float | None, unit: str = "") -> str:
    """Three digits."""
    return NONE if value is None else f"{value:.3g}{unit}"


def put(page: Path, name: str, text: str) -> None:
    """Replace the part of a page that belongs to a file of figures, or add it."""
    begin, end = f"<!-- {name} -->", "<!-- end -->"
    part = f"{begin}\n{text}\n{end}"
    before = page.read_text()
    there = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    after = there.sub(lambda _: part, before) if there.search(before) else f"{before}\n{part}\n"
    page.write_text(after)


def heading(machine: dict[str, Any], made: str) -> str:
    """The machine, its class, torch and the day, so that no two are alike."""
    kind = f", {machine['class']}" if "class" in machine else ""
    return f"## On {machine.get('gpu', machine['cpu'])}{kind}, torch {machine['torch']}, {made}"


def main() -> None:
    """Print the tables of a file, or put them into a page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--into", type=Path, metavar="PAGE")
    given = parser.parse_args()
    found = json.loads(given.file.read_text())
    text = tables(found)
    if given.into is None:
        print(text)
    else:
        m = found["machine"]
        put(given.into, given.file.name, heading(m, found["made"]) + f"\n\n{text}")


if __name__ == "__main__":
    main()
