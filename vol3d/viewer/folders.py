"""A folder as layers: what it is, and what of it is shown first."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

import vol3d
from vol3d.data.bids_writer import parse_entities, read_maker
from vol3d.data.tables import bare, participants_table
from vol3d.errors import ConfigError, DataError
from vol3d.io.reading import read_json, read_text, under, understood
from vol3d.viewer.files import image_of, layers_of_file, suffix_of, who_of
from vol3d.viewer.layers import LayerTuple, points_layer
from vol3d.viewer.registered import is_registrations, layers_of_registrations
from vol3d.viewer.together import masks_apart

Kind = Literal["file", "segmentations", "registrations", "cohort", "model"]
READY = Path("ready")
"""The name of the models that come with vol3d."""
SEGMENTER = "vol3d segment"
"""What made a folder of segmentations, by its description."""
GENERATOR = "vol3d generate"
GENERATED_LIMITS = (0.0, 1 / 1.2)
"""Of generated brains: their 1 is 1.2 times the 99.5th percentile of a brain, which is white in scans."""


def kind_of(path: Path) -> Kind:
    """What is at a path.

    Raises:
        ConfigError: nothing, or a folder that holds nothing of ours.
    """
    if path.is_file():
        return "file"
    if is_model(path):
        return "model"
    if not path.is_dir():
        raise ConfigError(f"{path}: no such file or folder")
    if read_maker(path).get("Name") == SEGMENTER:
        return "segmentations"
    if is_registrations(path):
        return "registrations"
    if participants_table(cohort_at(path)) or any(cohort_at(path).glob("sub-*")):
        return "cohort"
    raise ConfigError(
        f"{path}: holds nothing that can be shown; name an image, a cohort (a BIDS folder), what vol3d "
        f"segment or vol3d register wrote, or a bundle or run"
    )


def is_model(path: Path) -> bool:
    """Whether it is a bundle, or the run that makes one."""
    marks = ("checksums.json", "bundle/checksums.json", "checkpoints", "log.jsonl")
    return path == READY or any((path / mark).exists() for mark in marks)


def model_at(path: Path) -> Path:
    """The folder of a model; of `ready`, that of the generator which comes with vol3d."""
    return Path(vol3d.__file__).parent / "ready" / "diffusion" if path == READY else path


NO_SCAN = ("dseg", "probseg", "mask")
MEMBERS = "_desc-members_"
LESION_PLACE = ("x_mm", "y_mm", "z_mm")


# -- segmentations ----------------------------------------------------------------------------------


def visits_of(folder: Path) -> dict[str, Path]:
    """The visits of a folder of segmentations that are complete: who -> the sidecar."""
    found = sorted(folder.glob("sub-*/**/anat/*_dseg.json"))
    return {who_of(path): path for path in found if "desc" not in parse_entities(path)}


def layers_of_segmentations(folder: Path, who: str | None = None) -> list[LayerTuple]:
    """What an ensemble says of one visit: the consensus shown, probabilities and uncertainty at hand.

    Members are left to the widget Ensemble, which shows one at a time.

    Args:
        folder: what `vol3d segment` wrote.
        who: sub-X or sub-X_ses-Y; the first visit without it.

    Raises:
        ConfigError: nobody is complete there, or not this one.
    """
    visits = visits_of(folder)
    if not visits:
        raise ConfigError(f"{folder}: has no visit that is complete; let vol3d segment finish it")
    who = who or next(iter(visits))
    if who not in visits:
        raise ConfigError(f"{folder}: has no {who}; it has {', '.join([*visits][:5])}")
    stem = visits[who].name.removesuffix("_dseg.json")
    files = [p for p in visits[who].parent.glob(f"{stem}_*.nii.gz") if MEMBERS not in p.name]
    layers = []
    for path in sorted(files, key=place_in_list):
        data, settings, what = image_of(path)
        settings["visible"] = path.name == f"{stem}_dseg.nii.gz"
        settings["name"] = f"{who} {path.name.removeprefix(stem)[1:].removesuffix('.nii.gz')}"
        layers.append((data, settings, what))
    return [*layers, *lesions_of(visits[who], who)]


def lesions_of(sidecar: Path, who: str) -> list[LayerTuple]:
    """The centres of the pieces that a visit's sidecar lists, if it lists any."""
    with understood(sidecar):
        every = under(read_json(sidecar), "Lesions").items()
        pieces = [{"structure": name, **piece} for name, some in every for piece in some]
        points = np.array([[piece[c] for c in LESION_PLACE] for piece in pieces], float)
    if not pieces:
        return []
    known = {c: [p[c] for p in pieces] for c in pieces[0] if c not in LESION_PLACE}
    return [points_layer(points, f"{who} lesions", features=known)]


def place_in_list(path: Path) -> tuple[int, str]:
    """Maps of numbers lie below label maps, and the consensus on top."""
    is_labels = suffix_of(path) == "dseg"
    return (2 if is_labels and "desc" not in parse_entities(path) else int(is_labels)), path.name


# -- cohorts ----------------------------------------------------------------------------------------


def cohort_at(path: Path) -> Path:
    """A cohort's folder; of what `vol3d evaluate` wrote, that of the brains which it generated."""
    inner = path / "closed_loop"
    return inner if inner.is_dir() else path


def images_of(folder: Path, who: str) -> list[Path]:
    """The images of a person in a BIDS folder, or of one of their visits: T1w first, label maps last."""
    subject, _, session = who.partition("_")
    inside = folder / subject / session if session else folder / subject
    files = [p for p in inside.rglob("anat/*.nii*") if p.name.endswith((".nii", ".nii.gz"))]
    return sorted(files, key=lambda p: (suffix_of(p) in NO_SCAN, suffix_of(p) != "T1w", p.name))


def layers_of_person(folder: Path, who: str, *, all_scans: bool = True) -> list[LayerTuple]:
    """A person's images and label maps; of the label maps one is seen, the others are at hand.

    Args:
        folder: the BIDS dataset.
        who: sub-X, or sub-X_ses-Y.
        all_scans: whether scans beside the first one are opened too, unseen.

    Raises:
        DataError: there is no image of them.
    """
    files = images_of(folder, who)
    if not files:
        place = "/".join([*who.split("_"), "anat"])
        raise DataError(f"{folder}: has no image of {who} (in {place})")
    is_generated = read_maker(folder).get("Name") == GENERATOR
    layers, seen = [], set()
    for path in files:
        kind = "labels" if suffix_of(path) in NO_SCAN else "scan"
        if kind == "scan" and "scan" in seen and not all_scans:
            continue
        limits = GENERATED_LIMITS if is_generated and kind == "scan" else None
        data, settings, what = image_of(path, limits)
        settings["visible"] = kind not in seen and suffix_of(path) != "mask"
        settings["name"] = f"{who} {short_name(path)}"
        seen |= {kind} if settings["visible"] else set()
        layers.append((data, settings, what))
    return masks_apart(layers)


def short_name(path: Path) -> str:
    """A file's name without who it is of and in which space."""
    said = parse_entities(path)
    words = [f"{k}-{v}" for k, v in said.items() if k not in ("sub", "ses", "space", "res")]
    return "_".join([*words, suffix_of(path)])


def first_person(folder: Path) -> str:
    """The first visit of a cohort that has an image."""
    people = sorted(p.name for p in folder.glob("sub-*") if p.is_dir())
    if not people:
        raise DataError(f"{folder}: has no person (folders sub-...)")
    for person in people:
        sessions = sorted(p.name for p in (folder / person).glob("ses-*"))
        for who in [f"{person}_{session}" for session in sessions] or [person]:
            if images_of(folder, who):
                return who
    raise DataError(f"{folder}: has no image of anybody (in sub-.../anat)")


# -- models -----------------------------------------------------------------------------------------


def preview_of(path: Path) -> Path | None:
    """The last picture of a training; None where there is none, as in a bundle."""
    return max(model_at(path).glob("previews/*.png"), default=None)


def layers_of_model(path: Path) -> list[LayerTuple]:
    """The last preview of a run.

    Raises:
        DataError: there is none, as in a bundle.
    """
    preview = preview_of(path)
    if preview is None:
        raise DataError(
            f"{path}: is a model without pictures; draw from it with vol3d generate {path} OUT, and look "
            f"at OUT"
        )
    from matplotlib.image import imread

    picture = imread(preview)[..., :3]
    return [(picture, {"name": f"{path.name} {preview.stem}", "rgb": True}, "image")]


def facts_of_model(path: Path) -> Iterator[tuple[str, str]]:
    """What a bundle or run says of itself, in lines of name and value."""
    folder = model_at(path)
    bundle = folder if (folder / "checksums.json").is_file() else folder / "bundle"
    documents = {p.stem: read_json(p) for p in sorted(bundle.glob("*.json"))}
    if (bundle / "config.yaml").is_file():
        kind = read_text(bundle / "config.yaml").split("kind:", 1)[-1].split("\n", 1)[0]
        yield "kind", kind.strip()
    told = documents.get("fingerprint", {})
    if scans := under(told, "scans"):
        yield "scans", f"{scans.get('train')} to learn from, {scans.get('val')} held out"
    if "shape" in told:
        yield "voxels", plainly(told["shape"])
    for column in documents.get("covariates", {}).get("columns", []):
        yield str(column.get("name")), range_of(column)
    for name, value in under(documents.get("quality")).items():
        yield name, plainly(value)
    if preview := preview_of(path):
        yield "last preview", preview.name


def range_of(column: dict[str, Any]) -> str:
    """What a model has seen of a covariate."""
    if "levels" in column:
        return ", ".join(f"{k} ({n})" for k, n in under(column["levels"]).items())
    unit = f" {column['unit']}" if column.get("unit") else ""
    return f"{plainly(column.get('low'))} to {plainly(column.get('high'))}{unit}"


def plainly(value: object) -> str:
    """A value in a line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return " x ".join(map(plainly, value)) if isinstance(value, list) else str(value)


def layers_at(path: Path, who: str | None = None) -> list[LayerTuple]:
    """What is shown of a path first.

    Args:
        path: a file, a cohort, a folder of segmentations or registrations, a bundle or a run.
        who: whose, of a folder with several people: sub-X or sub-X_ses-Y; X does.
    """
    kind = kind_of(path)
    whose = f"sub-{bare(who)}" if who else None
    if kind == "file":
        return layers_of_file(path)
    if kind == "model":
        return layers_of_model(path)
    if kind == "segmentations":
        return layers_of_segmentations(path, whose)
    if kind == "registrations":
        return layers_of_registrations(path, whose)
    folder = cohort_at(path)
    return layers_of_person(folder, whose or first_person(folder))
