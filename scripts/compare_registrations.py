"""Registrations side by side: the same pairs of people held out, the same affine map first.

python scripts/compare_registrations.py runs/compare --data ixi2mm --labels muse
python scripts/compare_registrations.py runs/compare --data ixi2mm --labels muse --registrar ours=BUNDLE
python scripts/compare_registrations.py runs/truth --data runs/cohort --labels tissue

OUT/pairs.tsv has the pairs, OUT/rows a file for each method and pair, OUT/table.md the table so far. Run
it again, or several at once with other --methods, to go on: what is there is not done again. Overlap is
the mean Dice of all labels that both people have; all label maps are moved by one chain of transforms, in
one interpolation. Where the data set knows the true warps of its people (vol3d sample-cohort), the error
against them is measured as well. Times are those of the processor, so that other work on the machine
counts less; seconds by the clock are kept in the rows. Programs that are not installed are left out.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

THREADS = next((w.split("=")[-1] for w in sys.argv if w.startswith("--threads=")), "1")
for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):  # before they are loaded
    os.environ[name] = THREADS

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import torch  # noqa: E402
from registration_peers import Method, peers, voxelmorph  # noqa: E402

from vol3d.data.bids_writer import write_json, write_text, write_tsv  # noqa: E402
from vol3d.data.datasets import Bids  # noqa: E402
from vol3d.data.network_images import as_seen, normalise  # noqa: E402
from vol3d.data.rng import numpy_rng  # noqa: E402
from vol3d.data.tables import read_rows  # noqa: E402
from vol3d.data.visit import Visit  # noqa: E402
from vol3d.io.files import make_folder  # noqa: E402
from vol3d.metrics.folding import folding  # noqa: E402
from vol3d.metrics.registration import endpoint_error, label_overlap, true_displacement  # noqa: E402
from vol3d.metrics.round_trip import round_trip  # noqa: E402
from vol3d.trained.registrar import open_registrar  # noqa: E402
from vol3d.trained.registration import Side, aligned  # noqa: E402
from vol3d.trained.registration_folder import read_labels  # noqa: E402
from vol3d.transforms.displacement import to_mm, to_voxels  # noqa: E402
from vol3d.transforms.field_file import read_field  # noqa: E402
from vol3d.transforms.resample import move_labels  # noqa: E402
from vol3d.transforms.transform import affine, chain, field, matrix_of, sampled  # noqa: E402
from vol3d.transforms.transform_file import read_transform, write_transform  # noqa: E402
from vol3d.volume import Grid, Volume  # noqa: E402

AFFINE = "affine only"


def arguments() -> argparse.Namespace:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="a BIDS folder, desc-brain")
    parser.add_argument("--labels", required=True, help="what label maps say: muse for desc-muse")
    parser.add_argument("--fixed-contrast", default="T1w", help="T2w: from T1w to T2w of another")
    parser.add_argument(
        "--pairs", type=int, default=20, help="how many are drawn, or taken of those drawn"
    )
    parser.add_argument("--seed", type=int, default=0, help="another draws other pairs")
    parser.add_argument("--methods", nargs="+", help="some of them, by name; all if not given")
    parser.add_argument("--registrar", nargs="+", default=[], metavar="NAME=BUNDLE")
    parser.add_argument("--optimise", type=int, nargs="+", default=[0, 50], help="steps of search")
    parser.add_argument("--voxelmorph", type=Path, help="weights of scripts/train_voxelmorph.py")
    parser.add_argument("--back", action="store_true", help="the other way too: the round trip")
    parser.add_argument("--threads", default="1", help="--threads=2, of every program")
    return parser.parse_args()


def ours(bundle: Path | str, steps: int) -> Method:
    """A registrar of vol3d, with so many steps of search."""
    registrar = open_registrar(bundle)

    def found(moving: Volume, fixed: Volume) -> np.ndarray:
        m, f = (torch.from_numpy(np.ascontiguousarray(v.data))[None, None] for v in (moving, fixed))
        with torch.no_grad():
            u = registrar(m, f, optimise=steps).displacement()[0]
        return to_mm(u.numpy().astype(np.float64), fixed.grid)

    return found


def methods_of(asked: argparse.Namespace) -> dict[str, Method]:
    """All that can be compared here, by name."""
    found, missing = peers()
    if missing:
        print(f"not installed, so left out: {', '.join(missing)}", file=sys.stderr)
    every = {AFFINE: lambda moving, _: np.zeros((3, *moving.shape)), **found}
    if asked.voxelmorph:
        every["VoxelMorph"] = voxelmorph(asked.voxelmorph)
    every["search alone, 100 steps"] = ours("none", 100)
    for word in asked.registrar:
        name, _, path = word.rpartition("=")
        for steps in asked.optimise:
            every[f"{name or Path(path).name}, {steps} steps"] = ours(path, steps)
    if unknown := {*(asked.methods or [])} - {*every}:
        sys.exit(f"no method {', '.join(sorted(unknown))}; there are: {'; '.join(every)}")
    return {name: m for name, m in every.items() if name in (asked.methods or every)}


@dataclass(frozen=True)
class Data:
    """The people of a data set."""

    asked: argparse.Namespace

    @cached_property
    def visits(self) -> dict[str, Visit]:
        """Everybody's first visit, by name."""
        source = Bids(
            path=self.asked.data,
            contrasts=list(dict.fromkeys(["T1w", self.asked.fixed_contrast])),
            entities={"desc": "brain"},
            labels_entities={"desc": self.asked.labels},
        )
        return {v.who: v for v in reversed(source.scans())}

    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of people held out: of the table, which is written first if it is not there."""
        path = make_folder(self.asked.out) / "pairs.tsv"
        if not path.is_file():
            held_out = sorted(
                who for who, v in self.visits.items() if v.split == "val" and v.label_map
            )
            every = [(m, f) for m in held_out for f in held_out if m != f]
            rng = numpy_rng(self.asked.seed, "pairs")
            chosen = rng.choice(len(every), min(self.asked.pairs, len(every)), replace=False)
            write_tsv(path, [dict(zip(("moving", "fixed"), every[i], strict=True)) for i in chosen])
        rows = read_rows(path)[: self.asked.pairs]
        return [(row["moving"], row["fixed"]) for row in rows]

    def truth(self, moving: str, fixed: str, grid: Grid) -> np.ndarray | None:
        """The true displacement in voxels, [3, X, Y, Z], where the data set knows it."""
        files = [
            next(self.asked.data.glob(f"sourcedata/{w}/*_xfm.nii.gz"), None)
            for w in (moving, fixed)
        ]
        if None in files:
            return None
        known = [to_voxels(*read_field(file)).astype(np.float32) for file in files]
        u = true_displacement(*(torch.from_numpy(np.ascontiguousarray(v))[None] for v in known))
        return u[0].numpy()


class Pair:
    """Two people on the grid of the second, after the affine map."""

    def __init__(self, data: Data, moving: str, fixed: str) -> None:
        self.name, self.data = f"{moving}_{fixed}", data
        visits = data.visits[moving], data.visits[fixed]
        self.moving = Side.read(visits[0], "T1w")
        self.fixed = Side.read(visits[1], data.asked.fixed_contrast)
        self.grid = self.fixed.brain.grid
        path = make_folder(data.asked.out / "affine") / f"{self.name}.mat"
        if not path.is_file():
            write_transform(path, affine(aligned(self.moving, self.fixed, affine=True)))
        self.matrix = matrix_of(read_transform(path))
        there = self.moving.brain.resample(self.grid, affine(self.matrix))
        self.images = (
            Volume(normalise(there.data), self.grid.affine),
            as_seen(self.fixed.brain, self.grid),
        )
        self.labels = (
            read_labels(visits[0], self.moving.scan),
            read_labels(visits[1], self.fixed.scan),
        )
        self.truth = data.truth(moving, fixed, self.grid)

    def row(self, method: Method, *, back: bool) -> dict[str, Any]:
        """What a method makes of it."""
        start, cpu = time.perf_counter(), time.process_time()
        u = method(*self.images)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        inside = self.images[1].data > 0
        whole = chain([field(u, self.grid), affine(self.matrix)])
        moved = move_labels(self.labels[0], whole, self.grid)
        dice = label_overlap(moved.data, self.labels[1].data)
        row: dict[str, Any] = {
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "dice": sum(dice.values()) / len(dice),
            "dice_of_labels": {str(k): round(v, 5) for k, v in dice.items()},
            **{k: v for k, v in folding(u, self.grid, inside).items() if k != "ndv_ml"},
        }
        if back:
            there, here = field(u, self.grid), field(method(*self.images[::-1]), self.grid)
            row["round_trip"] = round_trip(there, here, self.grid, inside)["mean_voxels"]
        if self.truth is not None:
            found = to_voxels(sampled(whole, self.grid), self.grid).astype(np.float32)
            tensors = [torch.from_numpy(np.ascontiguousarray(x))[None] for x in (found, self.truth)]
            mask = torch.from_numpy(inside)[None, None]
            row |= endpoint_error(*tensors, mask)
        return row


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """A row a method: means over the pairs that all methods have, and the spread of Dice over them."""
    shared = set.intersection(*({r["pair"] for r in of} for of in rows.values()))
    columns = {
        "Dice": lambda r: f"{mean(r, 'dice'):.4f} ± {np.std([x['dice'] for x in r]):.4f}",
        "gain over affine": lambda r: f"{mean(r, 'dice') - base:+.4f}" if base else "n/a",
        "NDV, %": lambda r: f"{mean(r, 'ndv_percent'):.5f}",
        "folded voxels, %": lambda r: f"{mean(r, 'folded_percent'):.5f}",
        "seconds of CPU": lambda r: f"{np.median([x['cpu_seconds'] for x in r]):.1f}",
        "endpoint error, voxels": lambda r: f"{mean(r, 'endpoint_mean'):.3f}",
        "round trip, voxels": lambda r: f"{mean(r, 'round_trip'):.3f}",
    }
    kept = {name: [r for r in of if r["pair"] in shared] for name, of in rows.items()}
    if not shared:
        return "no pair has been done by all methods yet\n"
    base = mean(kept[AFFINE], "dice") if AFFINE in kept else None
    lines = [["", "pairs", *columns], ["---"] * (len(columns) + 2)]
    for name, of in kept.items():
        lines.append([name, str(len(of)), *(told(form, of) for form in columns.values())])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def told(form: Any, of: list[dict[str, Any]]) -> str:
    """A cell; n/a where it was not measured."""
    try:
        return form(of)
    except KeyError:
        return "n/a"


def mean(rows: list[dict[str, Any]], key: str) -> float:
    """Over pairs."""
    return float(np.mean([row[key] for row in rows]))


def main() -> None:
    """Every pair by every method that has not done it, then the table."""
    asked = arguments()
    torch.set_num_threads(int(asked.threads))
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(int(asked.threads))
    data, methods = Data(asked), methods_of(asked)
    for moving, fixed in data.pairs():
        pair = None
        for name, method in methods.items():
            path = asked.out / "rows" / file_of(name) / f"{moving}_{fixed}.json"
            if path.is_file() and not (
                asked.back and "round_trip" not in json.loads(path.read_text())
            ):
                continue
            pair = pair or Pair(data, moving, fixed)
            row = pair.row(method, back=asked.back)
            make_folder(path.parent)
            write_json(path, {"method": name, "pair": pair.name, "threads": asked.threads, **row})
            print(
                f"{pair.name}\t{name}\tDice {row['dice']:.4f}\t{row['cpu_seconds']:.1f} s",
                flush=True,
            )
    rows: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(asked.out.glob("rows/*/*.json")):
        row = json.loads(path.read_text())
        rows.setdefault(row["method"], []).append(row)
    text = table(dict(sorted(rows.items(), key=lambda of: mean(of[1], "dice"))))
    write_text(asked.out / "table.md", text)
    print(text, end="")


def file_of(name: str) -> str:
    """A method's name as that of a folder."""
    return "".join(c if c.isalnum() else "-" for c in name)


if __name__ == "__main__":
    main()
