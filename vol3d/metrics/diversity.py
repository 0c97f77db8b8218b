"""How alike the volumes of a set are: mean MS-SSIM over pairs; lower is more diverse."""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from vol3d.data.rng import numpy_rng
from vol3d.metrics.similarity import ms_ssim, scales_for

Wrap = Callable[[list[tuple[int, int]]], Iterable[tuple[int, int]]]


def count_pairs(n: int, most: int) -> int:
    """How many pairs there are among n volumes, `most` at most."""
    return min(most, n * (n - 1) // 2)


def choose_pairs(n: int, most: int, *, seed: int = 0) -> list[tuple[int, int]]:
    """At most `most` different pairs of n volumes, in which each is used about equally often.

    The volumes are put in a circle at random; first neighbours are paired, then those two apart ...
    """
    order = numpy_rng("pairs", seed).permutation(n).tolist()
    pairs = []
    for apart in range(1, n // 2 + 1):
        starts = range(n // 2 if 2 * apart == n else n)  # opposite ones would come up twice
        # In this order nobody is used twice in a row.
        for i in sorted(starts, key=lambda i: i // apart % 2):
            pairs.append((order[i], order[(i + apart) % n]))
    return pairs[:most]


def mean_ms_ssim(
    volumes: list[np.ndarray], *, pairs: int, seed: int = 0, track: Wrap = list
) -> dict[str, float | int]:
    """Mean MS-SSIM over pairs of volumes.

    Args:
        volumes: of one shape, [1, X, Y, Z] in [0, 1].
        pairs: how many at most.
        seed: of their choice.
        track: wraps the list of pairs, to show progress.

    Returns:
        ms_ssim, ms_ssim_sd, n_pairs, n_volumes, and the scales: ms_ssim_levels, ms_ssim_window.

    Raises:
        ValueError: fewer than two volumes.
    """
    if len(volumes) < 2:
        raise ValueError(f"similarity within a set takes two volumes or more, got {len(volumes)}")
    values = [
        float(ms_ssim(torch.from_numpy(volumes[i])[None], torch.from_numpy(volumes[j])[None]))
        for i, j in track(choose_pairs(len(volumes), pairs, seed=seed))
    ]
    scales = scales_for(volumes[0].shape[1:])
    return {
        "ms_ssim": float(np.mean(values)),
        "ms_ssim_sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        "n_pairs": len(values),
        "n_volumes": len(volumes),
        "ms_ssim_levels": scales.levels,
        "ms_ssim_window": scales.window,
    }
