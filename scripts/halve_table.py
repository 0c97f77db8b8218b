"""A table of images and label maps at half their resolution, for comparisons that would take too long.

python scripts/halve_table.py TABLE OUT

Writes OUT/table.tsv and the files that it names. A voxel is the mean of eight, or their commonest label.
"""

import csv
import sys
from pathlib import Path

import SimpleITK as sitk

from vol3d.transforms.resample import move_image, move_labels
from vol3d.volume import Volume


def main(table: Path, out: Path) -> None:
    """Write the images, the label maps and the table."""
    out.mkdir(parents=True, exist_ok=True)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows:
        for column, move in (("image", move_image), ("labels", move_labels)):
            volume = Volume.read(table.parent / row[column])
            # Read linearly at the middle of eight voxels.
            half = move(volume, sitk.Transform(), volume.grid.coarser(2))
            row[column] = f"{row['subject']}_{column}.nii.gz"
            half.write(out / row[column])
    with (out / "table.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
