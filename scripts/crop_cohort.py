"""A BIDS cohort cropped to a box around its lesions, for comparisons that would take too long.

python scripts/crop_cohort.py COHORT OUT [SIDE [LEAST_ML]]

The box has SIDE voxels along each axis (24), and its middle is that of what any rater outlined. Left out
are people of whom the table tells less than LEAST_ML (2) of lesions.
"""

import csv
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np


def box_around(outlines: list[Path], side: int) -> tuple[slice, ...]:
    """The box, as near to the middle of the outlines as the volume lets it be."""
    outlined = np.any([np.asarray(nib.load(path).dataobj) > 0 for path in outlines], axis=0)
    if not outlined.any() or min(outlined.shape) < side:
        sys.exit(
            f"{outlines[:1]}: nothing is outlined there, or it has no {side} voxels along an axis"
        )
    middle = np.argwhere(outlined).mean(0)
    starts = [
        int(np.clip(round(m - side / 2), 0, n - side))
        for m, n in zip(middle, outlined.shape, strict=True)
    ]
    return tuple(slice(start, start + side) for start in starts)


def main(cohort: Path, out: Path, side: int = 24, least_ml: float = 2) -> None:
    """Write the cropped people, and the tables of those who are left."""
    with (cohort / "participants.tsv").open(newline="") as file:
        rows = [*csv.DictReader(file, delimiter="\t")]
    rows = [r for r in rows if r["lesions_ml"] != "n/a" and float(r["lesions_ml"]) >= least_ml]
    if not rows:
        sys.exit(f"{cohort}: nobody has {least_ml:g} ml of lesions")
    for row in rows:
        anat = Path(row["participant_id"], "anat")
        (out / anat).mkdir(parents=True, exist_ok=True)
        box = box_around(sorted((cohort / anat).glob("*desc-rater*_mask.nii.gz")), side)
        for path in (cohort / anat).glob("*.nii.gz"):
            nib.load(path).slicer[box].to_filename(out / anat / path.name)
    for path in [*cohort.glob("*.json"), *cohort.glob("*_dseg.tsv")]:
        shutil.copy(path, out)
    with (out / "participants.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    cohort, out, *numbers = sys.argv[1:]
    kinds = zip((int, float), numbers, strict=False)
    main(Path(cohort), Path(out), *(kind(number) for kind, number in kinds))
