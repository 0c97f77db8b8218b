"""Several paths as one picture: whose is shown, what lies over what, and what is seen at first."""

from collections.abc import Sequence
from pathlib import Path

from vol3d.errors import ConfigError
from vol3d.viewer.files import who_of
from vol3d.viewer.folders import (
    cohort_at,
    images_of,
    kind_of,
    layers_at,
    preview_of,
    visits_of,
)
from vol3d.viewer.layers import LayerTuple, is_scan
from vol3d.viewer.registered import pair_of, pairs_in
from vol3d.viewer.together import masks_apart

OVER = {"image": 0, "labels": 2, "vectors": 3, "points": 4}
"""Layers of a higher number lie over those of a lower; maps over images are 1."""


def gather(paths: Sequence[Path], who: str | None = None) -> list[LayerTuple]:
    """The layers of several paths: images below, then maps, label maps, vectors and points.

    Where an image's name says whose it is (sub-X), folders show the same person. Of several images the
    first is seen; the others lie under it, at hand.

    Args:
        paths: files, cohorts, folders of segmentations and registrations, bundles and runs.
        who: whose, of folders with several people.

    Raises:
        ConfigError: a folder does not have this person.
        DataError: a file is damaged, or there is nothing to show.
    """
    whose = who or next((w for p in paths if p.is_file() and (w := who_of(p))), None)
    layers: list[LayerTuple] = []
    for path in paths:
        if kind_of(path) == "model" and not preview_of(path):  # there is nothing but words
            continue
        # A cohort may be others, to look at beside an image; a segmentation is of one person.
        must = who is not None or kind_of(path) == "segmentations"
        known = knows(path, whose, must=must)
        found = layers_at(path, whose if known else None)
        if kind_of(path) == "registrations" and whose and not known:
            for _, settings, _ in found:
                settings["name"] += f" (not of {whose})"
        if (
            len(paths) > 1 and kind_of(path) == "cohort"
        ):  # what is asked for beside it is to be seen
            for _, settings, kind in found:
                settings["visible"] = kind == "image" and settings["visible"]
        layers += found
    layers.sort(key=place)
    images = [s for _, s, _ in layers if is_scan(s)]
    shown = [s for s in images if s.get("visible", True)]
    for settings in shown[1:]:
        settings["visible"] = False
    return masks_apart(layers)


def place(layer: LayerTuple) -> int:
    """How high a layer lies."""
    _, settings, kind = layer
    is_map = kind == "image" and "colormap" in settings and not is_scan(settings)
    return 1 if is_map else OVER[kind]


def knows(path: Path, who: str | None, *, must: bool) -> bool:
    """Whether a folder has a person.

    Raises:
        ConfigError: it has not, and `must`.
    """
    if who is None or path.is_file():
        return False
    name = who if who.startswith("sub-") else f"sub-{who}"
    kind = kind_of(path)
    if kind == "model":
        return False
    if kind == "segmentations":
        there = name in visits_of(path)
    elif kind == "registrations":
        there = pair_of(pairs_in(path), name) is not None
    else:
        there = bool(images_of(cohort_at(path), name))
    if must and not there:
        raise ConfigError(f"who={who}: {path} has nobody of that name; who=sub-... names another")
    return there
