"""The folder that `vol3d segment` writes: a BIDS derivatives dataset in the native space of each image.

    dseg.tsv                               the structures and their labels
    sub-X/[ses-Y/]anat/STEM_dseg.nii.gz    the consensus
    ..._label-NAME_probseg.nii.gz          mean probability of each structure
    ..._desc-entropy_probseg.nii.gz        uncertainty; also desc-mutualinformation, desc-variance
    ..._desc-majority_dseg.nii.gz          other consensus; also desc-staple
    ..._desc-members_dseg.nii.gz           the label map of each member, 4-D, where they are kept
    ..._dseg.json                          what was done and the volumes; with it a visit is complete
    volumes.tsv, lesions.tsv               the same for all visits

Maps of uncertainty are called probseg, which BIDS has for what is said of labels in numbers: it knows no
suffix for uncertainty, its validator refuses one of our own, and that of an image (T1w) would be untrue.
The entity desc tells them from probabilities, which have a label instead.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vol3d.data.bids_writer import DESCRIPTION, parse_entities, write_sidecar, write_tsv
from vol3d.data.visit import Visit
from vol3d.errors import DataError
from vol3d.io.reading import read_json, understood
from vol3d.trained.results_folder import KEPT, Kind, Place, check_begun, claim_folder, word

MAKER = "vol3d segment"
MAPS = {
    "entropy": "entropy of the mean probability in nats: the total uncertainty of a voxel",
    "mutualinformation": "mutual information of label and member in nats: how far members differ",
    "variance": "variance of the probability over members, summed over labels",
}
"""Maps of uncertainty, by their `desc`."""
TABLES = ("volumes.tsv", "lesions.tsv")
LESION_COLUMNS = (
    *("participant_id", "session_id", "structure", "number", "x_mm", "y_mm", "z_mm"),
    *("volume_ml", "confidence", "mean_probability"),
)
"""Of lesions.tsv, where nothing was found."""
README = """\
Segmentations by an ensemble, made by vol3d segment

For each visit, in the space and on the grid of its image: _dseg is the consensus of all members (dseg.tsv
names the labels), _label-NAME_probseg the mean probability of each structure, and desc-entropy,
desc-mutualinformation and desc-variance say how unsure a voxel is. The JSON file beside a _dseg says by
which models and seeds it was made. volumes.tsv has the volume of each structure in ml, with the range in
which the members' volumes lie; it says what the models think, and is held to the truth only where a
calibration was given (columns conformal_...). .bidsignore names the tables, for which BIDS has no place.

Not for diagnosis. How well an ensemble does is measured by vol3d score.
"""
LICENCE = "That of the images"


KIND = Kind(
    maker=MAKER,
    name="vol3d segmentations",
    description="segmentations by an ensemble",
    thing="segmentation",
    licence=LICENCE,
    readme=README,
    ignored=TABLES,
)


def label_word(structure: str) -> str:
    """A structure as BIDS's entity `label` has it: ventricles for ventricles_ml."""
    return word(structure.removesuffix("_ml"))


def places(out: Path, visits: Sequence[Visit]) -> dict[str, Place]:
    """Where the results of each visit go, by `who`.

    Raises:
        DataError: two visits would have the same names, or a name has no letter or digit.
    """
    found: dict[str, Place] = {}
    taken: dict[Path, str] = {}
    for visit in visits:
        place = Place.of(out, visit)
        if not word(visit.subject):
            raise DataError(f"{visit.image}: is of {visit.subject!r}, which has no letter or digit")
        if (other := taken.setdefault(place.sidecar, visit.who)) != visit.who or visit.who in found:
            raise DataError(
                f"{visit.image}: results of {visit.who} and {other} would have one name, "
                f"{place.sidecar.name}; take names that differ in letters or digits"
            )
        found[visit.who] = place
    return found


def claim(out: Path, settings: dict[str, Any], *, any_precision: bool) -> dict[str, Any]:
    """Take a free folder by describing it, or check that it was begun with the same settings.

    Args:
        out: the folder.
        settings: what results depend on, as plain values; `samplers` has one, or None, per segmenter.
        any_precision: go on in the precision in which the samplers began.

    Returns:
        The settings with which the folder is made.

    Raises:
        ConfigError: it holds something else; the first setting that differs is told.
    """
    begun = claim_folder(out, KIND, settings)
    with understood(out / DESCRIPTION):
        if any_precision:
            pairs = zip(settings["samplers"], begun["samplers"], strict=False)
            now = [a and {**a, "precision": (b or a)["precision"]} for a, b in pairs]
            same_number = len(begun["samplers"]) == len(settings["samplers"])
            settings = {**settings, "samplers": now if same_number else settings["samplers"]}
    check_begun(out, begun, settings)
    return settings


def describe(out: Path, structures: Sequence[str]) -> None:
    """What holds for all visits: the names of the labels, and what maps of uncertainty are."""
    rows = [{"index": i, "name": name} for i, name in enumerate(["background", *structures])]
    write_tsv(out / "dseg.tsv", rows)
    for desc, words in MAPS.items():
        write_sidecar(out, {"desc": desc}, "probseg", {"Description": words})
    for name in structures:
        words = f"mean probability of {name} over the members"
        write_sidecar(out, {"label": label_word(name)}, "probseg", {"Description": words})


def finished(out: Path) -> list[dict[str, Any]]:
    """The sidecars of all visits that are complete, by name; `Apart` has the entities that differ."""
    found = sorted(out.glob("sub-*/**/anat/*_dseg.json"))
    entities = [parse_entities(path) for path in found]
    apart = [name for name in KEPT if len({of.get(name) for of in entities}) > 1]
    return [
        {**read_json(path), "Apart": {name: of.get(name) for name in apart}}
        for path, of in zip(found, entities, strict=True)
    ]


def write_tables(out: Path, sidecars: Sequence[dict[str, Any]]) -> None:
    """volumes.tsv, a row per visit and structure; lesions.tsv, a row per piece, where asked for."""
    volumes, lesions = [], []
    for told in sidecars:
        # Not from Visit: subjects of a table may hold a "_" themselves.
        session = told["Session"] and f"ses-{told['Session']}"
        whose = {"participant_id": f"sub-{told['Subject']}", "session_id": session}
        whose |= told.get("Apart", {})
        for name, of in told["Volumes"].items():
            single = {k: v for k, v in of.items() if k != "members_ml"}
            volumes.append({**whose, "structure": name, **single})
        for name, pieces in told["Lesions"].items():
            lesions += [{**whose, "structure": name, **piece} for piece in pieces]
    if volumes:
        write_tsv(out / TABLES[0], volumes)
    if lesions or any(told["Lesions"] for told in sidecars):
        write_tsv(out / TABLES[1], lesions, LESION_COLUMNS)
