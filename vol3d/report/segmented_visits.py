"""What an ensemble found in each visit: a table of volumes, and pictures of borders and doubts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vol3d.planes import fullest
from vol3d.report.page import Picture, Section, Table, page
from vol3d.report.pictures import Panel, in_rows, panels_in_rows
from vol3d.volume import Volume

SHOWN = 8
"""Visits in pictures, at most."""
OUTLINED = 3
"""Structures with an outline of their own."""


@dataclass(frozen=True, eq=False)
class SegmentedVisit:
    """A visit to be shown; all of it in RAS+ on one grid.

    Attributes:
        who: sub-X or sub-X_ses-Y.
        image: in [0, 1].
        labels: the consensus.
        entropy: in nats.
        volumes: what the sidecar says of each structure.
    """

    who: str
    image: Volume
    labels: Volume
    entropy: Volume
    volumes: dict[str, dict[str, Any]]


def segmented_page(
    sidecars: Sequence[dict[str, Any]], shown: Sequence[SegmentedVisit], interval: float
) -> str:
    """The HTML of a report.

    Args:
        sidecars: of all visits, with the entities that tell them apart.
        shown: some of them.
        interval: the share of members within an interval.
    """
    is_calibrated = any("Temperature" in told for told in sidecars)
    header = ["visit", "structure", "ml", f"{interval:.0%} of members", "consensus ml"]
    header += ["conformal ml"] * is_calibrated
    rows = [
        [
            "_".join([told["Visit"], *(f"{k}-{v}" for k, v in told["Apart"].items() if v)]),
            name,
            f"{of['mean_ml']:.2f}",
            between(of["low_ml"], of["high_ml"]),
            f"{of['consensus_ml']:.2f}",
            *[between(of.get("conformal_low_ml"), of.get("conformal_high_ml"))] * is_calibrated,
        ]
        for told in sidecars
        for name, of in told["Volumes"].items()
    ]
    sentences = [
        "The interval holds that share of the members' volumes: it says how far the models differ."
    ]
    sentences += [
        "The conformal interval holds the true volume of as many people as the calibration promises, "
        "if they are like those it was found on."
        if is_calibrated
        else "Whether it holds the truth is not known without a calibration; vol3d score makes one."
    ]
    sections = [
        Section("Volumes", sentences, tables=[Table("mean over the members", header, rows)])
    ]
    if shown:
        more = len(sidecars) - len(shown)
        words = f"The first {len(shown)} of {len(sidecars)} visits." if more else "All visits."
        pictures = [Picture(figure_of(one), one.who) for one in shown]
        sections.append(Section("Borders and doubts", [words], pictures=pictures))
    return page("Segmentations by an ensemble", sections)


def figure_of(visit: SegmentedVisit) -> Any:
    """Each structure's outline, and the entropy; through the planes with most of the first structure."""
    labels, names = visit.labels.data, list(visit.volumes)
    first = labels == 1 if (labels == 1).any() else labels > 0
    panels = [
        Panel(
            f"{name}: {visit.volumes[name]['mean_ml']:.1f} ml",
            visit.image.data,
            outline=labels == k,
        )
        for k, name in list(enumerate(names, 1))[:OUTLINED]
    ]
    nats = np.log(len(names) + 1)
    panels.append(Panel("entropy: white where all labels are alike", visit.entropy.data / nats))
    columns = 6 if 1 in labels.shape else 2  # a slice is one picture, a volume three
    return panels_in_rows(in_rows(panels, columns), visit.labels.spacing, fullest(first))


def between(low: float | None, high: float | None) -> str:
    """A range in a table."""
    return "not known" if low is None or high is None else f"{low:.2f} to {high:.2f}"
