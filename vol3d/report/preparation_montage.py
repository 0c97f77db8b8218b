"""The QC montage of prepared scans: each in three planes, with the template's outline, worst first."""

from pathlib import Path

import numpy as np

from vol3d.data.preparation.alignment import template_volume
from vol3d.planes import middle
from vol3d.report.pictures import Panel, in_rows, panels_in_rows, save
from vol3d.volume import Volume

MOST = 60
"""Scans in the picture; those that stand out come first, then those least like the template."""


def write_montage(path: Path, images: list[Path], rows: list[dict[str, object]]) -> None:
    """Draw the prepared brains, all on one grid; `rows` are those of the QC table."""
    order = sorted(range(len(rows)), key=lambda i: (not rows[i]["flag"], rows[i]["overlap"]))[:MOST]
    volumes = [Volume.read(images[i]).reorient("RAS") for i in order]
    grid = volumes[0].grid
    outline = template_volume(1.0).resample(grid).data
    panels = [
        Panel(title(rows[i]), v.data.astype(np.float32), outline=outline > 0.05)
        for i, v in zip(order, volumes, strict=True)
    ]
    figure = panels_in_rows(in_rows(panels), grid.spacing, middle([outline]))
    save(figure, path)


def title(row: dict[str, object]) -> str:
    """What stands above a scan."""
    words = f"{row['scan']}: NMI {row['nmi']:.3f}, Dice {row['dice']:.3f}, {row['brain_ml']:.0f} ml"
    return f"{words}\n{row['flag']}" if row["flag"] else words
