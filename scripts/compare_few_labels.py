"""Segmenters from few labelled people, on the sample cohort: Dice of each structure, as a table.

python scripts/compare_few_labels.py networks runs/few  # features against U-Nets from nothing
python scripts/compare_few_labels.py augmentation runs/few # our U-Net with and without augmentation

Run it again to go on; what is there is not made again. The rows stand in OUT/networks.tsv or
OUT/augmentation.tsv as well, beside those of earlier runs.
"""

import argparse
import json
import sys
from pathlib import Path

from vol3d.cli import fill, load_verb
from vol3d.data.bids_writer import write_tsv
from vol3d.data.tables import read_rows

SEGMENTER, AUGMENTATION = (
    f"configs/few_labels/{name}.yaml" for name in ("segmenter", "augmentation")
)
UNET = "task.model={kind: unet, patch: 1, channels: [16, 32, 64]}"
WAYS = {
    "networks": {
        "features": ["task.model={kind: diffusion_features, of: GENERATOR}"],
        "features, tuned": [
            "task.model={kind: diffusion_features, of: GENERATOR, tune: true}",
            "optim.lr=1e-3",
        ],
        "U-Net": [UNET],
        "MONAI's U-Net": ["task.model={kind: monai_unet, channels: [16, 32, 64, 128]}"],
    },
    "augmentation": {
        "as it is": [UNET, "task.flip=0", "task.brightness=0"],
        "flip, brightness": [UNET],
        "and TorchIO": [AUGMENTATION, UNET],
    },
}


def arguments() -> argparse.Namespace:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=WAYS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--people", type=int, nargs="+", default=[1, 2, 5, 10, 20])
    parser.add_argument("--ways", nargs="+", help="some of the rows, by name; all if not given")
    parser.add_argument("--draws", type=int, default=1, help="how often other people are drawn")
    parser.add_argument("--grid", default="4mm", help="coarser is faster: 8mm")
    parser.add_argument("--images", type=int, default=600, help="seen in each training")
    parser.add_argument(
        "--generator",
        type=Path,
        help="a run or bundle; OUT/generator if not given, made if not there",
    )
    parser.add_argument(
        "--generator-words", nargs="*", default=[], help="changes to the generator's config"
    )
    return parser.parse_args()


def run(verb: str, *words: str) -> None:
    """A verb of vol3d in this process, as the command line would."""
    fill(verb, load_verb(verb), list(words)).execute()


def make_generator(cohort: Path, where: Path, data: list[str], words: list[str]) -> None:
    """The generator, from the images of those who are learnt from; it sees nobody who is held out."""
    people = read_rows(cohort / "participants.tsv")
    held_out = ",".join(p["participant_id"] for p in people if p["split"] == "val")
    config = "configs/few_labels/generator.yaml"
    run("train", config, *data, f"data.exclude=[{held_out}]", f"run={where}", *words)


def quality(asked: argparse.Namespace, data: list[str], way: str, people: int, draw: int) -> dict:
    """Dice of each structure on the people held out, of one training."""
    name = f"{asked.what}/{way}-{people}-{draw}".replace(" ", "_").replace(",", "").replace("'", "")
    words = [word.replace("GENERATOR", str(asked.generator)) for word in WAYS[asked.what][way]]
    run(
        *("train", SEGMENTER, *words, *data, f"run={asked.out / name}"),
        *(f"data.people={people}", f"data.people_seed={draw}", f"total_nimg={asked.images}"),
        f"preview_every={asked.images}",
    )
    return json.loads((asked.out / name / "bundle" / "quality.json").read_text())


def main() -> None:
    """All trainings, and the table."""
    asked = arguments()
    if unknown := {*(asked.ways or ())} - {*WAYS[asked.what]}:
        sys.exit(f"--ways: no {', '.join(unknown)}; there are {', '.join(WAYS[asked.what])}")
    cohort = asked.out / "cohort"
    data = [f"data.path={cohort}", f"data.grid={asked.grid}"]
    run("sample-cohort", str(cohort), "n=192", "spacing=4")
    if asked.what == "networks" and asked.generator is None:
        asked.generator = asked.out / "generator"
        make_generator(cohort, asked.generator, data, asked.generator_words)
    table = asked.out / f"{asked.what}.tsv"
    order = [*WAYS[asked.what]]
    found = read_rows(table) if table.is_file() else []
    rows = {(int(row["people"]), row["way"]): row for row in found}
    for people in asked.people:
        for way in asked.ways or WAYS[asked.what]:
            told = [quality(asked, data, way, people, draw) for draw in range(asked.draws)]
            dice = {k: sum(t[k] for t in told) / len(told) for k in told[0] if k.startswith("dice")}
            figures = {k.removeprefix("dice_"): f"{d:.3f}" for k, d in dice.items()}
            rows[people, way] = {"people": str(people), "way": way, **figures}
            in_order = sorted(rows.items(), key=lambda row: (row[0][0], order.index(row[0][1])))
            write_tsv(table, [row for _, row in in_order])
    cells = [[*next(iter(rows.values()))], *([*row.values()] for _, row in in_order)]
    print(
        "\n".join(
            f"| {' | '.join(row)} |" for row in [cells[0], ["---"] * len(cells[0]), *cells[1:]]
        )
    )


if __name__ == "__main__":
    main()
