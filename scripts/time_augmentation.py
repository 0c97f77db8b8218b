"""How long each transform of `task.augment` takes on this machine, as a table.

    python scripts/time_augmentation.py IMAGE LABELS

The image is read as the networks see it; each transform changes it and its label map, with p=1. The last
line is a mean over images where all seven are on with the probabilities of their defaults. CPU time is
that of all threads, so other programs bear little on it; on images/s they do.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from vol3d.data.augment import Augment
from vol3d.data.network_images import normalise
from vol3d.data.rng import torch_rng
from vol3d.volume import Volume

IMAGES = 12
"""Drawn for each figure."""


def main(image: str, labels: str) -> None:
    """A line for each transform."""
    x, y = (Volume.read(path).reorient("RAS") for path in (image, labels))
    images = {"x": torch.from_numpy(normalise(x.data))[None]}
    maps = {"y": torch.from_numpy(np.rint(y.data).astype(np.int64))[None]}
    print(f"{x.grid}; {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch")
    print("| transform | CPU ms an image | images/s, 1 reader | images/s, 2 readers |")
    print("|---|---|---|---|")
    expected = 0.0
    for name in Augment.model_fields:
        augment = Augment.parse({name: {"p": 1}})

        def draw(i: int, augment: Augment = augment) -> None:
            augment.augmented(images, maps, x.grid.spacing, torch_rng("time", i))

        draw(0)  # TorchIO is loaded
        start_cpu, rates = time.process_time(), []
        for readers in (1, 2):
            with ThreadPoolExecutor(readers) as threads:
                start = time.perf_counter()
                list(threads.map(draw, range(IMAGES)))
                rates.append(IMAGES / (time.perf_counter() - start))
        ms = 1000 * (time.process_time() - start_cpu) / (2 * IMAGES)
        print(f"| {name} | {ms:.0f} | {rates[0]:.1f} | {rates[1]:.1f} |", flush=True)
        expected += ms * getattr(Augment.parse({name: {}}), name).p
    print(f"| all, each with its p | {expected:.0f} | | |")


if __name__ == "__main__":
    main(*sys.argv[1:])
