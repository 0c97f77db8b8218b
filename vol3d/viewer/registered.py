"""What `vol3d register` wrote, as layers and as the files of a pair; found without torch or SimpleITK."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from vol3d.data.bids_writer import parse_entities, read_maker
from vol3d.errors import ConfigError, DataError
from vol3d.io.files import sha256
from vol3d.io.reading import read_json, under, understood
from vol3d.viewer.files import image_of, layers_of_file, who_of
from vol3d.viewer.layers import LayerTuple

REGISTER = "vol3d register"
"""What made a folder of registrations, by its description."""
DESC = "registered"


@dataclass(frozen=True)
class PairFiles:
    """The files of a pair.

    Attributes:
        fixed: the image that stayed; None where it is not found.
        moving: the image that was moved; likewise.
        transform: from points of the fixed image to points of the moving one.
        registered: the moving image on the fixed one's grid, where it is there already.
        lacking: names of the images that are not found.
    """

    fixed: Path | None
    moving: Path | None
    transform: Path
    registered: Path | None = None
    lacking: Sequence[str] = ()


def is_registrations(folder: Path) -> bool:
    """Whether `vol3d register` wrote a folder."""
    return folder.is_dir() and read_maker(folder).get("Name") == REGISTER


def pairs_in(out: Path) -> dict[str, Path]:
    """The sidecars of the pairs of a folder that are complete: "sub-X to B" -> the file.

    Raises:
        DataError: `vol3d register` did not write it, or has completed no pair yet.
    """
    if not is_registrations(out):
        raise DataError(
            f"{out}: is no folder that {REGISTER} wrote; choose the one that it was given"
        )
    sidecars = sorted(out.glob(f"sub-*/**/anat/*_desc-{DESC}_*.json"))
    found = {name_of(path): path for path in sidecars if not path.name.endswith("_dseg.json")}
    if not found:
        raise DataError(f"{out}: no pair is complete yet; run {REGISTER} again to go on")
    return found


def name_of(sidecar: Path) -> str:
    """A pair by who moves where."""
    said = parse_entities(sidecar.with_suffix(""))
    kept = [f"{k}-{said[k]}" for k in ("acq", "ce", "rec", "run") if k in said]
    return f"{'_'.join([who_of(sidecar), *kept])} to {said['space']}"


def files_of_pair(sidecar: Path, data: Path | None = None) -> PairFiles:
    """The files of a pair; images are those of the names and checksums that its sidecar tells.

    Args:
        sidecar: see `pairs_in`.
        data: the folder where the images are looked for, beside the registrations' own.
    """
    out = next(folder for folder in sidecar.parents if is_registrations(folder))
    with understood(sidecar):
        inputs = under(read_json(sidecar), "Inputs")
        told = {
            side: (inputs[side]["File"], inputs[side]["SHA256"]) for side in ("fixed", "moving")
        }
    places = [out / "sourcedata", *([data] if data else [])]
    found = {side: image_at(places, *of) for side, of in told.items()}
    return PairFiles(
        **found,
        registered=sidecar.with_suffix(".nii.gz"),
        transform=beside(sidecar, "mode-image_xfm.h5"),
        lacking=[told[side][0] for side, path in found.items() if path is None],
    )


def image_at(places: list[Path], name: str, checksum: str) -> Path | None:
    """The file of a name and checksum in some folders."""
    every = (path for place in places for path in sorted(place.rglob(name)))
    return next((path for path in every if sha256(path) == checksum), None)


def beside(sidecar: Path, ending: str) -> Path:
    """The transform of a pair from its moving image, by the end of its name."""
    contrast, said = sidecar.stem.rsplit("_", 1)[-1], parse_entities(sidecar.with_suffix(""))
    start = sidecar.name.split("_space-")[0]
    return sidecar.with_name(f"{start}_from-{contrast}_to-{said['space']}_{ending}")


def layers_of_registrations(folder: Path, who: str | None = None) -> list[LayerTuple]:
    """The registered image of a pair, its label map there, and the deformation at hand.

    Args:
        folder: what `vol3d register` wrote.
        who: whose image was moved, or is the fixed one of a pair where none of theirs was: sub-X or
            sub-X_ses-Y; the first pair without it.

    Raises:
        ConfigError: there is no pair of anybody of that name.
        DataError: see `pairs_in`.
    """
    pairs = pairs_in(folder)
    name = pair_of(pairs, who) if who else next(iter(pairs))
    if name is None:
        raise ConfigError(f"{folder}: has no {who}; it has {', '.join([*pairs][:5])}")
    return [*layers_of_pair(name, pairs[name])]


def pair_of(pairs: Mapping[str, Path], who: str) -> str | None:
    """The first pair in which somebody was moved, or, where there is none, onto whom another was."""
    moved = (name for name, path in pairs.items() if who_of(path) == who)
    space = who.removeprefix("sub-").replace("_ses-", "ses")
    fixed = (name for name, path in pairs.items() if parse_entities(path).get("space") == space)
    return next(chain(moved, fixed), None)


def layers_of_pair(name: str, sidecar: Path) -> Iterator[LayerTuple]:
    """See `layers_of_registrations`."""
    image = sidecar.with_suffix(".nii.gz")
    labels = image.with_name(image.name.rsplit("_", 1)[0] + "_dseg.nii.gz")
    field = beside(sidecar, "mode-image_desc-deformation_xfm.nii.gz")
    for path, words in ((image, ""), (labels, " labels")):
        if path.is_file():
            data, settings, kind = image_of(path)
            yield data, {**settings, "name": name + words}, kind
    for data, settings, kind in layers_of_file(field) if field.is_file() else ():
        told = f"{name} deformation, without the affine map"
        yield data, {**settings, "name": told, "visible": False}, kind
