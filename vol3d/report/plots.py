"""Asked against measured, as scatter plots with the identity and the fitted line."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vol3d.io.text import visible


@dataclass(frozen=True)
class Cloud:
    """One structure's volumes, and what `vol3d.metrics.agreement` says of them.

    Attributes:
        reference: [n] ml asked for, or true.
        measured: [n] ml.
        stats: n, slope, intercept_ml, pearson_r ...
    """

    name: str
    reference: np.ndarray
    measured: np.ndarray
    stats: dict


def clouds(panels: list[Cloud], *, reference: str, measured: str) -> Figure:
    """One scatter plot for each structure, side by side; the names are the titles of the axes."""
    figure = Figure(figsize=(4.6 * len(panels), 4.4), dpi=110, layout="constrained")
    for axes, panel in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        draw_cloud(axes, panel)
        axes.set(xlabel=f"{reference} (ml)", ylabel=f"{measured} (ml)")
        axes.set_title(visible(panel.name), parse_math=False)
    return figure


def draw_cloud(axes: Axes, cloud: Cloud) -> None:
    """The points, the identity (dashed) and the least squares line, on equal axes."""
    both = np.concatenate([cloud.reference, cloud.measured])
    both = both[np.isfinite(both)]
    margin = 0.06 * np.ptp(both)
    ends = np.array([both.min() - margin, both.max() + margin])
    inside = np.array([np.nanmin(cloud.reference), np.nanmax(cloud.reference)])
    fit = cloud.stats["intercept_ml"] + cloud.stats["slope"] * inside
    axes.plot(ends, ends, "--", color="0.5", linewidth=1, label="identity")
    axes.plot(inside, fit, color="tab:red", linewidth=1.5, label="least squares")
    axes.scatter(cloud.reference, cloud.measured, s=16, alpha=0.75, linewidths=0)
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    words = (
        "n = {n}\nPearson r = {pearson_r:.3f}\nSpearman r = {spearman_r:.3f}\nslope = {slope:.2f}"
    )
    axes.text(
        0.03, 0.97, words.format(**cloud.stats), transform=axes.transAxes, va="top", fontsize=8
    )
