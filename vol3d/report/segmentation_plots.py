"""Reliability, risk against coverage, and volumes with their intervals, as matplotlib figures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vol3d.io.text import visible
from vol3d.metrics.volumes import holds

BEFORE, AFTER = "tab:red", "tab:blue"
MOST_PANELS = 4
"""Beside each other."""
FEW = 30
"""Voxels; where a bin has fewer, its share is chance and is not drawn."""


def panels(n: int, width: float = 4.2, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes, at most four in a row."""
    columns = min(n, MOST_PANELS)
    rows = -(-n // columns)
    figure = Figure(figsize=(width * columns, height * rows), dpi=110, layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for unused in axes[n:]:
        unused.set_visible(False)
    return figure, axes[:n]


def reliability(curves: dict[str, dict[str, Any]]) -> Figure:
    """How often it is right against how sure it is, before and after fitting, a panel each.

    Args:
        curves: by title, what `Scores.of_calibration` gives.
    """
    figure, axes = panels(len(curves))
    for axis, (title, found) in zip(axes, curves.items(), strict=True):
        axis.plot([0, 1], [0, 1], "--", color="0.5", linewidth=1)
        n = np.array(found["before"]["curve"]["n"], float)
        if n.sum():
            edges = np.linspace(0, 1, len(n) + 1)
            shares = n / n.max() * 0.25
            axis.bar(edges[:-1], shares, 1 / len(n), align="edge", color="0.9", zorder=0)
        for key, colour, words in (
            ("before", BEFORE, "as it is"),
            ("after", AFTER, "fitted on other people"),
        ):
            if key in found:
                x, y = (
                    np.array(found[key]["curve"][part], float) for part in ("confidence", "right")
                )
                x[np.array(found[key]["curve"]["n"]) < FEW] = np.nan
                error = found[key]["ece"]["value"]
                told = "n/a" if error is None else f"{error:.3f}"
                axis.plot(x, y, ".-", color=colour, label=f"{words}, error {told}")
        axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axis.set(xlabel="probability", ylabel="share that is so")
        axis.set_title(visible(title), parse_math=False, fontsize=10)
        axis.legend(loc="upper left", fontsize=8, frameon=False)
    return figure


def risk_coverage(measures: dict[str, dict[str, Any]]) -> Figure:
    """The share of errors among the surest voxels, a line a measure, beside that of an ideal one."""
    figure, (axis,) = panels(1, 5.5, 4.0)
    for i, (name, found) in enumerate(measures.items()):
        curve = found["risk_coverage"]
        auroc = found["auroc"]["value"]
        told = "" if auroc is None else f", AUROC {auroc:.2f}"
        words = f"{name.replace('_', ' ')}{told}"
        axis.plot(curve["coverage"], curve["risk"], color=f"C{i}", label=words)
    rate = next(iter(measures.values()))["error_rate"]
    x = np.linspace(0.02, 1, 99)
    axis.plot(x, np.maximum(0, x - (1 - rate)) / x, ":", color="0.4", label="an ideal measure")
    axis.axhline(rate, linestyle="--", color="0.7", linewidth=1, label="chance")
    axis.set(xlim=(0, 1), ylim=(0, None), xlabel="share of voxels kept, the surest first")
    axis.set_ylabel("share of them that is wrong")
    axis.legend(fontsize=8, frameon=False)
    return figure


@dataclass(frozen=True, eq=False)
class VolumeCloud:
    """One structure's volumes in ml, an entry a visit.

    Attributes:
        title: of the panel.
        truth: true.
        predicted: mean over members.
        credible: low and high, the members' own interval.
        conformal: low and high, fitted on other people; None where there are too few.
    """

    title: str
    truth: np.ndarray
    predicted: np.ndarray
    credible: tuple[np.ndarray, np.ndarray]
    conformal: tuple[np.ndarray, np.ndarray] | None


def volumes(clouds: list[VolumeCloud]) -> Figure:
    """Predicted against true volumes with both intervals; those that miss stand out."""
    figure, axes = panels(len(clouds))
    for axis, cloud in zip(axes, clouds, strict=True):
        low, high = cloud.conformal or cloud.credible
        wide = float(np.clip(100 / len(cloud.truth), 0.8, 3))
        every = np.concatenate([cloud.truth, low, high])
        margin = 0.05 * (np.ptp(every) or 1)
        ends = np.array([every.min() - margin, every.max() + margin])
        axis.plot(ends, ends, "--", color="0.5", linewidth=1)
        if cloud.conformal:
            missed = ~holds(low, high, cloud.truth)
            for which, colour, words in (
                (~missed, "0.7", "fitted on other people"),
                (missed, "tab:red", "the same, missed"),
            ):
                if which.any():
                    sides = (low[which], high[which])
                    axis.vlines(cloud.truth[which], *sides, color=colour, linewidth=1, label=words)
        axis.vlines(
            cloud.truth, *cloud.credible, color="tab:blue", linewidth=wide, label="members' own"
        )
        axis.plot(cloud.truth, cloud.predicted, ".", color="black", markersize=3)
        axis.set(xlim=ends, ylim=ends, aspect="equal")
        axis.set(xlabel="true (ml)", ylabel="predicted (ml)")
        axis.set_title(visible(cloud.title), parse_math=False, fontsize=10)
        axis.legend(loc="upper left", fontsize=8, frameon=False)
    return figure
