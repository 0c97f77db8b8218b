"""Scans beside what autoencoders make of them, as a picture; in-brain PSNR on the way.

    python scripts/show_reconstructions.py OUT.png AUTOENCODER[,AUTOENCODER...] IMAGE...

Images are read as the networks see them, on the autoencoder's grid.
"""

import sys
from pathlib import Path

import torch

from vol3d.data.network_images import normalise
from vol3d.metrics.reconstruction import measure_scan
from vol3d.planes import middle
from vol3d.report.pictures import Panel, panels_in_rows
from vol3d.trained import TrainedAutoencoder
from vol3d.volume import Volume


def main(out: str, autoencoders: str, *images: str) -> None:
    """A row an image: the scan, then each reconstruction with its PSNR."""
    models = [TrainedAutoencoder(path) for path in autoencoders.split(",")]
    rows = []
    for image in images:
        volume = Volume.read(image).reorient("RAS")
        grid = models[0].grid
        on_grid = volume if volume.grid.matches(grid, tolerance_mm=0.01) else volume.resample(grid)
        x = torch.from_numpy(normalise(on_grid.data))[None]
        row = [Panel(Path(image).name.split("_")[0], x[0].numpy())]
        for model, name in zip(models, autoencoders.split(","), strict=True):
            y = model.reconstruct(x[None])[0].cpu()
            psnr = measure_scan(x, y, model.downsample, model.z_channels)["psnr_brain_db"]
            row.append(Panel(f"{Path(name).name}, {psnr:.1f} dB", y[0].numpy()))
        rows.append(row)
        print("\t".join(panel.title for panel in row))
    at = middle([row[0].x for row in rows])
    panels_in_rows(rows, models[0].grid.spacing, at).savefig(out, facecolor="black")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
