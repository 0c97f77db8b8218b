"""How good an ensemble is by sampling steps and members, with the time it takes, as heat maps."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vol3d.io.text import visible

MEASURES = {
    "dice": ("Dice, higher is better", True),
    "ged_squared": ("energy distance squared, lower is better", False),
}
"""Titles, and whether more is better."""


def heat_maps(rows: list[dict]) -> Figure:
    """A panel for each solver and measure, a cell for each number of steps and members.

    Args:
        rows: solver, steps, members, dice, ged_squared (None where there is one rater) and
            seconds_per_volume of each setting.
    """
    solvers = list(dict.fromkeys(r["solver"] for r in rows))
    measures = [m for m in MEASURES if any(r[m] is not None for r in rows)]
    steps = sorted({r["steps"] or 0 for r in rows})
    members = sorted({r["members"] for r in rows})
    size = (1.5 + 0.95 * len(members) * len(solvers), (1.3 + 0.62 * len(steps)) * len(measures))
    figure = Figure(figsize=(max(4.5, size[0]), size[1]), dpi=110, layout="constrained")
    every = figure.subplots(len(measures), len(solvers), squeeze=False)
    for measure, of_measure in zip(measures, every, strict=True):
        known = [r[measure] for r in rows if r[measure] is not None]
        for solver, axes in zip(solvers, of_measure, strict=True):
            mine = {(r["steps"] or 0, r["members"]): r for r in rows if r["solver"] == solver}
            draw(axes, mine, measure, steps, members, (min(known), max(known)))
            title = (f"{solver}: " if solver else "") + MEASURES[measure][0]
            axes.set_title(visible(title), parse_math=False, fontsize=10)
    return figure


def draw(
    axes: Axes,
    cells: dict[tuple[int, int], dict],
    measure: str,
    steps: list[int],
    members: list[int],
    ends: tuple[float, float],
) -> None:
    """One panel; bright is good."""
    values = np.full((len(steps), len(members)), np.nan)
    for (step, n), row in cells.items():
        if row[measure] is not None:
            values[steps.index(step), members.index(n)] = row[measure]
    colours = "viridis" if MEASURES[measure][1] else "viridis_r"
    low, high = ends
    axes.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto", origin="lower")
    for (step, n), row in cells.items():
        value = row[measure]
        if value is None:
            continue
        place = (value - low) / (high - low) if high > low else 0.5
        bright = place if MEASURES[measure][1] else 1 - place
        words = f"{value:.3f}\n{duration(row['seconds_per_volume'])}"
        ink = {"color": "black" if bright > 0.5 else "white", "fontsize": 8}
        at = (members.index(n), steps.index(step))
        axes.text(*at, words, ha="center", va="center", **ink)
    axes.set(xticks=range(len(members)), xticklabels=members, xlabel="members")
    axes.set(yticks=range(len(steps)), yticklabels=[s or "n/a" for s in steps], ylabel="steps")


def duration(seconds: float) -> str:
    """A time to three digits at most."""
    if seconds >= 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
