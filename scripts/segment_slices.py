"""A diffusion segmenter on axial slices of the sample cohort, and the vote of several of its maps.

vol3d sample-cohort cohort n=192 spacing=4
python scripts/segment_slices.py cut cohort slices
vol3d train run=run data.kind=table data.path=slices/table.tsv task.kind=diffuse task.target=labels \
      'task.model={kind: unet, channels: [32, 48, 64]}' task.cond_dropout=0 task.drop_all=0 \
      'task.conditions={vector: null, t1: {kind: image, of: T1w}}' total_nimg=4000 batch=8 optim.lr=2e-3 ema_halflife=300
python scripts/segment_slices.py dice run slices
"""  # noqa: E501 (a command is one line)

import sys
from pathlib import Path

import numpy as np

from vol3d.data.datasets import Table
from vol3d.data.dice import dice
from vol3d.data.tables import read_rows
from vol3d.trained import TrainedGenerator
from vol3d.trained.guiding_images import GuidingVisits
from vol3d.volume import Volume

PLANE = 20
"""Of the 40 planes along Z, from below."""
PEOPLE, SEEDS, LABELS = 10, 8, (1, 2, 3, 4)


def cut(cohort: Path, folder: Path) -> None:
    """One slice of each person's T1w and tissue map, as volumes one voxel thick, and their table."""
    folder.mkdir(parents=True)
    rows = ["subject\timage\tlabels\tsplit"]
    for row in read_rows(cohort / "participants.tsv"):
        who, names = row["participant_id"], []
        for kind in ("desc-brain_T1w", "desc-tissue_dseg"):
            whole = Volume.read(next(cohort.glob(f"{who}/anat/*{kind}.nii.gz")))
            affine = whole.affine.copy()
            affine[:3, 3] = whole.affine[:3] @ [0, 0, PLANE, 1]
            names.append(f"{who}_{kind}.nii.gz")
            Volume(whole.data[:, :, PLANE : PLANE + 1], affine, 4).write(folder / names[-1])
        rows.append("\t".join([who, *names, row["split"]]))
    (folder / "table.tsv").write_text("\n".join(rows) + "\n")


def mean_dice(a: np.ndarray, b: np.ndarray) -> float:
    """Over the labels."""
    return float(np.mean([dice(a == k, b == k) for k in LABELS]))


def measure(run: Path, folder: Path) -> None:
    """Dice of single maps and of the vote of all seeds, on people held out."""
    visits = [v for v in Table(path=folder / "table.tsv").scans() if v.split == "val"][:PEOPLE]
    for steps in (1, 4, 10):
        model = TrainedGenerator(run, sampler={"solver": "euler", "steps": steps})
        guides = GuidingVisits(model.channels, dict(enumerate(visits)))
        single, voted = [], []
        for i, visit in enumerate(visits):
            truth = np.rint(Volume.read(visit.label_map).reorient("RAS").data)
            maps = model.generate([{}] * SEEDS, list(range(SEEDS)), [guides.of(i)] * SEEDS)
            maps = maps[:, 0].numpy()
            vote = np.stack([(maps == k).mean(0) for k in (0, *LABELS)]).argmax(0)
            single.append(np.mean([mean_dice(m, truth) for m in maps]))
            voted.append(mean_dice(vote, truth))
        print(f"{steps} steps: one map {np.mean(single):.3f}, vote of {SEEDS} {np.mean(voted):.3f}")


if __name__ == "__main__":
    what, first, second = sys.argv[1], *map(Path, sys.argv[2:4])
    {"cut": cut, "dice": measure}[what](first, second)
