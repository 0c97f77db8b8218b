"""An ensemble scored as it grows: after 1, 2, 4, ... members, each drawn once."""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vol3d.metrics.band import foreground_band
from vol3d.metrics.calibration import Reliability
from vol3d.metrics.ensemble import Ensemble
from vol3d.metrics.masks import Masks
from vol3d.metrics.raters import Overlaps, dice_of_pairs, energy_distance


@dataclass(frozen=True, eq=False)
class Grown:
    """The first members of an ensemble against truth, on one visit.

    Attributes:
        members: how many.
        dice: of each structure, the consensus by the mean; of several raters their mean.
        reliability: of the likeliest label in the band around structures.
        ged_squared: mean energy distance over structures; NaN with one rater.
        seconds: to draw them.
    """

    members: int
    dice: list[float]
    reliability: Reliability
    ged_squared: float
    seconds: float


def grow(
    members: Iterable[Tensor],
    sizes: Collection[int],
    truths: Sequence[np.ndarray],
    spacing: tuple[float, float, float],
) -> Iterator[Grown]:
    """Score the mean of the first members at each size; no two are held.

    Args:
        members: probabilities [K, X, Y, Z], one after the other.
        sizes: after how many.
        truths: [X, Y, Z] labels by each rater.
        spacing: mm along X, Y, Z.
    """
    stream, drawn_s, ensemble = iter(members), 0.0, None
    raters: list[Masks] = []
    while True:
        began = time.perf_counter()
        p = next(stream, None)
        p = None if p is None else p.detach().float().cpu()  # waits for the device
        drawn_s += time.perf_counter() - began
        if p is None:
            return
        if ensemble is None:
            ensemble = Ensemble(len(p), tuple(p.shape[1:]))
            raters = [Masks.of(t == k for t in truths) for k in range(1, len(p))]
        ensemble.add(p)
        if len(ensemble) not in sizes:
            continue
        mean = ensemble.mean
        consensus = mean.argmax(0)
        yield Grown(
            len(ensemble),
            dice_of(consensus, raters),
            reliability_of(mean, consensus, truths, spacing),
            ged_of(ensemble, raters) if len(truths) > 1 else float("nan"),
            drawn_s,
        )


def dice_of(consensus: np.ndarray, raters: Sequence[Masks]) -> list[float]:
    """Of each structure, the mean over raters."""
    found = []
    for k, theirs in enumerate(raters, 1):
        ours = Masks.of([consensus == k])
        found.append(
            float(dice_of_pairs(ours.volumes, theirs.volumes, ours.overlap(theirs)).mean())
        )
    return found


def reliability_of(
    mean: np.ndarray,
    consensus: np.ndarray,
    truths: Sequence[np.ndarray],
    spacing: tuple[float, float, float],
) -> Reliability:
    """How sure the likeliest label is, and how often right, near structures."""
    band = foreground_band(consensus, *truths, spacing=spacing)
    sure, found = mean[:, band].max(0), Reliability()
    for truth in truths:
        found.add(sure, consensus[band] == truth[band])
    return found


def ged_of(ensemble: Ensemble, raters: Sequence[Masks]) -> float:
    """Mean over structures of the energy distance of members and raters."""
    each = [
        energy_distance(Overlaps.of(ensemble.masks(k), theirs))
        for k, theirs in enumerate(raters, 1)
    ]
    return float(np.mean(each))
