"""Several scorings of `vol3d score` side by side, as a Markdown table.

python scripts/compare_segmenters.py [NAME=]SCORES...

SCORES is the folder that was written, or its scores.json; NAME is what the table calls it. In brackets
are 95 % intervals over people; n follows where not all visits have the figure. Scorings of different
people cannot be compared, and are refused. More members come closer to raters whatever the model:
compare GED² and what follows it at equal numbers.
"""

import json
import sys
from pathlib import Path
from typing import Any

from vol3d.metrics.segmentation_verdict import told
from vol3d.metrics.verdict import plain

OVERALL = {
    "AUROC of entropy": ("uncertainty", "entropy", "auroc"),
    "ECE": ("calibration", "before", "ece"),
    "ECE, fitted": ("calibration", "after", "ece"),
}
OF_STRUCTURE = {
    "Dice": (("dice",), ".3f"),
    "HD95, mm": (("hd95_mm",), ".2f"),
    "volume error, ml": (("volume", "mae_ml"), ".2f"),
    "own interval holds": (("volume", "credible", "coverage"), ".0%"),
    "fitted interval holds": (("volume", "conformal", "coverage"), ".0%"),
    "its width, ml": (("volume", "conformal", "width_ml"), ".3g"),
    "GED²": (("raters", "ged_squared"), ".3f"),
    "matched IoU": (("raters", "matched_iou"), ".3f"),
    "collective insight": (("raters", "collective_insight"), ".3f"),
    "maximum Dice": (("raters", "maximum_dice"), ".3f"),
    "spread of volumes": (("raters", "volume_spread"), ".2f"),
}


def read(word: str) -> tuple[str, dict[str, Any]]:
    """The name and the content of one scoring."""
    name, _, path = word.rpartition("=")
    path = Path(path)
    if path.name != "scores.json":
        path = path / "scores.json"
    return name or path.parent.name, json.loads(path.read_text())


def at(content: Any, *keys: str) -> Any:
    """What lies under some keys; None where there is nothing."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def table(scorings: dict[str, dict[str, Any]]) -> str:
    """A row a scoring; measures that none has are left out."""
    columns = {
        what: [told(at(s, *keys), ".3f") for s in scorings.values()]
        for what, keys in OVERALL.items()
    }
    for structure in dict.fromkeys(n for s in scorings.values() for n in s["structures"]):
        for what, (keys, form) in OF_STRUCTURE.items():
            cells = [
                told(at(s, "structures", structure, *keys), form, of=s["n_visits"])
                for s in scorings.values()
            ]
            columns[f"{plain(structure)}: {what}"] = cells
    columns = {what: cells for what, cells in columns.items() if {*cells} != {"n/a"}}
    lines = [["", "people", "members", *columns], ["---"] * (len(columns) + 3)]
    for i, (name, s) in enumerate(scorings.items()):
        sizes = str(s["n_people"]), str(s.get("members", "n/a"))
        lines.append([name, *sizes, *[cells[i] for cells in columns.values()]])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(words: list[str]) -> None:
    """Print the table."""
    scorings = dict(map(read, words))
    if len(scorings) < len(words):
        sys.exit("two scorings have one name; call them NAME=SCORES")
    if len({s["scored_sha256"] for s in scorings.values()}) > 1:
        sys.exit("these are scorings of different visits or label maps; score the same ones")
    sys.stdout.write(table(scorings))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
