"""The folder that `vol3d register` writes: a BIDS derivatives dataset in the space of the fixed images.

    sub-X/[ses-Y/]anat/
      sub-X_space-B_desc-registered_T1w.nii.gz        the moving brain on the fixed image's grid
      sub-X_space-B_desc-registered_dseg.nii.gz       its label map there, where it has one
      sub-X_from-T1w_to-B_mode-image_xfm.h5           the transform: deformation, then affine map
      sub-X_from-T1w_to-B_mode-image_xfm.safetensors  velocities: the way there, for path=9
      sub-X_from-B_to-T1w_mode-image_xfm.h5           the way back
      ..._from-T1w_to-B_mode-image_desc-deformation_xfm.nii.gz   the deformation alone, and its inverse
      ..._from-T1w_to-B_mode-image_desc-affine_xfm.mat           the affine map alone
      sub-X_space-B_jacobian.nii.gz                   how many times larger the moving tissue is
      sub-X_space-B_logjacobian.nii.gz                the logarithm of the same
      sub-X_space-B_desc-registered_T1w.json          what was done; with it a pair is complete
    sourcedata/pictures/                              a checkerboard, the warped grid, the Jacobian
    registrations.tsv                                 the same for all pairs

B is MNI152NLin2009aSym, or the person of the fixed image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import vol3d
from vol3d.data.bids_writer import (
    MNI_SPACE,
    bids_name,
    parse_entities,
    sidecar_of,
    write_json,
    write_tsv,
)
from vol3d.data.native_scan import NativeScan
from vol3d.data.preparation.alignment import template_volume
from vol3d.data.visit import Visit
from vol3d.errors import DataError
from vol3d.io.files import make_folder
from vol3d.io.reading import naming, read_json, understood
from vol3d.metrics.registration import label_overlap
from vol3d.trained.registration import Registration
from vol3d.trained.results_folder import Kind, Place, word
from vol3d.transforms.field_file import write_field
from vol3d.transforms.resample import Interpolation, move_labels, whole_numbers
from vol3d.transforms.transform_file import write_transform
from vol3d.transforms.velocity_file import velocities_beside, write_flow
from vol3d.volume import Volume

TABLE = "registrations.tsv"
DESC = "registered"
TEMPLATES = {"template": 1.0, "template2mm": 2.0, "template4mm": 4.0}
"""Names of the MNI152 template as a fixed image, and its voxel size in mm."""
KIND = Kind(
    maker="vol3d register",
    name="vol3d registrations",
    description="images registered to others, and the transforms",
    thing="registration",
    licence="That of the images",
    readme="""\
Registrations, made by vol3d register

desc-registered is the moving image on the grid of the fixed one, named by space. A transform
from-T1w_to-B_mode-image_xfm moves images from T1w onto B; in mm it sends points of B to points of the
T1w, as ITK and ANTs keep it, LPS+. The .h5 file holds all: a deformation, through which a point of B goes
first, and an affine map. desc-deformation_xfm and desc-affine_xfm are the two apart, as ANTs' 1Warp and
0GenericAffine. from-B_to-T1w is the way back. jacobian is how many times larger the tissue is in the
moving image than in the fixed one, the affine map included; 1 where nothing changes. logjacobian is its
logarithm: 0 where nothing changes, and below 0 in much of any registration. It is NaN where the
deformation folds; how much does, the JSON file says. .bidsignore names what BIDS has no place for.

Not for diagnosis.
""",
    ignored=(TABLE, "*_xfm.*", "*jacobian.nii.gz"),
)


@dataclass(frozen=True)
class Pair:
    """Two images to register; label maps and brain masks are those of the visits.

    Attributes:
        moving: is brought onto the fixed one.
        fixed: stays.
        contrast: which of the moving visit's images is looked at.
        to: the fixed one in a word, as `space` and `to` name it.
        at: where results go.
    """

    moving: Visit
    fixed: Visit
    contrast: str
    to: str
    at: Place

    @classmethod
    def of(cls, out: Path, moving: Visit, fixed: Visit, contrast: str) -> "Pair":
        """The pair, and the names of its results.

        Raises:
            DataError: a name has no letter or digit, or the fixed one's is the contrast.
        """
        to = called(fixed)
        if not to or not word(moving.subject):
            raise DataError(f"{moving.image}, {fixed.image}: names need a letter or digit each")
        if to.casefold() == contrast.casefold():  # both ways would have one name
            raise DataError(
                f"{fixed.image}: is named {to} as the contrast of {moving.image} is, so that the way "
                f"there and the way back would have one name; name it, or its folder, by the person"
            )
        at = Place.of(out, moving)
        kept = {k: v for k, v in at.entities.items() if k != "space"}
        entities = {**kept, "space": to, "desc": DESC}
        return cls(moving, fixed, contrast, to, replace(at, entities=entities, suffix=contrast))

    @property
    def name(self) -> str:
        """Who moves where."""
        return f"{self.moving.who} to {self.to}"

    @property
    def files(self) -> dict[str, Path | None]:
        """What the pair is made from."""
        return {
            "moving": self.moving.images[self.contrast],
            "fixed": self.fixed.image,
            "moving_mask": self.moving.mask,
            "fixed_mask": self.fixed.mask,
            "moving_labels": self.moving.label_map,
            "fixed_labels": self.fixed.label_map,
        }

    def map(self, suffix: str) -> Path:
        """A map in the fixed space that is no image: `pair.map("jacobian")`."""
        return self.named({"space": self.to}, suffix, ".nii.gz")

    def xfm(self, ending: str, desc: str = "", *, back: bool = False) -> Path:
        """A transform's file."""
        ends = (self.to, self.contrast) if back else (self.contrast, self.to)
        entities = {"from": ends[0], "to": ends[1], "mode": "image"}
        return self.named(entities | ({"desc": desc} if desc else {}), "xfm", ending)

    def named(self, entities: dict[str, str], suffix: str, ending: str) -> Path:
        """A file beside the registered image."""
        kept = {k: v for k, v in self.at.entities.items() if k not in ("space", "desc")}
        name = bids_name({**kept, **entities}, suffix, self.at.who)
        return self.at.file(suffix).parent / f"{name}{ending}"

    @property
    def velocities(self) -> Path:
        """The way there, see `write_flow`."""
        return velocities_beside(self.xfm(".h5"))

    @property
    def picture(self) -> Path:
        """A checkerboard and more."""
        name = self.named({"space": self.to}, "registration", ".png").name
        return self.at.out / "sourcedata" / "pictures" / name


def called(fixed: Visit) -> str:
    """A fixed image in a word: its template, or its person and session."""
    template = parse_entities(fixed.image).get("tpl")
    return word(template or fixed.subject + (f"ses{fixed.session}" if fixed.session else ""))


def template_visit(out: Path, name: str) -> Visit:
    """The MNI152 brain as any other fixed image, in the folder, where `keep_template` writes it."""
    res = f"{TEMPLATES[name]:g}"
    path = out / "sourcedata" / f"tpl-{MNI_SPACE}_res-{res}_desc-brain_T1w.nii.gz"
    return Visit(MNI_SPACE, None, {"T1w": path}, {}, "train")


def templates(out: Path) -> dict[Path, str]:
    """The names of the template by the file in which each is kept."""
    return {template_visit(out, name).image: name for name in TEMPLATES}


def keep_template(out: Path, name: str) -> None:
    """Write it, unless it is there."""
    path = template_visit(out, name).image
    if not path.is_file():
        make_folder(path.parent)
        template_volume(TEMPLATES[name]).write(path)


def check_names(pairs: Sequence[Pair]) -> None:
    """Refuse, by a DataError, two pairs whose results would have one name."""
    taken: dict[Path, Pair] = {}
    for pair in pairs:
        other = taken.setdefault(pair.at.sidecar, pair)
        if other is not pair:
            raise DataError(
                f"{pair.files['moving']}: its results and those of {other.files['moving']} would have "
                f"one name, {pair.at.sidecar.name}; take names that differ in letters or digits"
            )


def read_labels(visit: Visit, scan: NativeScan) -> Volume:
    """The label map of a visit, in RAS+.

    Raises:
        DataError: it lies on another grid than the image, or holds what is no label.
    """
    labels = Volume.read(visit.label_map, visit.form).reorient("RAS")
    if not labels.grid.matches(scan.grid, tolerance_mm=0.01):
        raise DataError(
            f"{visit.label_map}: lies on a grid of {labels.grid}, its image on {scan.grid} (or elsewhere "
            f"in the world); resample it onto the image"
        )
    with naming(visit.label_map):
        return Volume(whole_numbers(labels.data), labels.affine)


def write_pair(
    pair: Pair,
    found: Registration,
    labels: Volume | None,
    fixed_labels: Volume | None,
    told: dict[str, Any],
    *,
    interpolation: Interpolation,
    velocities: bool,
) -> None:
    """All files of a pair, the sidecar last: with it the pair is complete.

    Args:
        pair: where they go.
        found: on the pair.
        labels: of the moving image (see `read_labels`), to go along.
        fixed_labels: of the fixed image, for the overlap.
        told: what else the sidecar says.
        interpolation: of the registered image.
        velocities: keep them.
    """
    make_folder(pair.at.sidecar.parent)
    overlaps = {} if labels is None else moved_labels(pair, found, labels, fixed_labels)
    fixed, flow = found.fixed.scan, found.flow
    fixed.write(found.registered(interpolation).data, pair.at.file(pair.contrast))
    write_transform(pair.xfm(".h5"), found.transform)
    write_transform(pair.xfm(".h5", back=True), found.inverse)
    for back in (False, True):
        u = flow.displacement(-1.0 if back else 1.0)
        write_field(pair.xfm(".nii.gz", "deformation", back=back), u, found.grid)
    write_transform(pair.xfm(".mat", "affine"), flow.affine)
    if velocities:
        write_flow(pair.velocities, flow)
    det = found.jacobian.data
    log_det = np.log(det, out=np.full_like(det, np.nan), where=det > 0)
    fixed.write(det, pair.map("jacobian"))
    fixed.write(log_det, pair.map("logjacobian"))
    write_json(
        pair.at.sidecar,
        {
            "Description": f"{pair.contrast} brain of {pair.moving.who}, registered to {pair.to}",
            "SkullStripped": True,
            "SpatialReference": pair.fixed.image.name,
            "Moving": pair.moving.who,
            "Fixed": pair.to,
            **told,
            "Grid": str(found.grid),
            "AffineMatrix": flow.matrix.tolist(),
            "AffineDeterminant": float(np.linalg.det(flow.matrix)),
            **found.measures(),
            **overlaps,
            "Vol3d": vol3d.__version__,
        },
    )


def moved_labels(
    pair: Pair, found: Registration, ours: Volume, theirs: Volume | None
) -> dict[str, Any]:
    """Write the moving label map on the fixed grid; Dice of each label, where the fixed one has some."""
    grid, image = found.fixed.brain.grid, pair.at.file("dseg")
    moved = move_labels(ours, found.transform, grid)
    found.fixed.scan.write(moved.data, image)
    about = {
        "Description": f"label map of {pair.moving.who}, registered to {pair.to}",
        "Manual": False,
        "SpatialReference": pair.fixed.image.name,
    }
    write_json(sidecar_of(image), about)
    if theirs is None:
        return {}
    before = label_overlap(move_labels(ours, found.flow.affine, grid).data, theirs.data)
    after = label_overlap(moved.data, theirs.data)
    return {
        "Dice": {"affine": mean(before), "after": mean(after)},
        "DiceOfLabels": {str(k): round(v, 5) for k, v in after.items()},
    }


def mean(overlaps: dict[int, float]) -> float | None:
    """Over labels; None where there is none."""
    return round(sum(overlaps.values()) / len(overlaps), 5) if overlaps else None


def finished(out: Path) -> list[dict[str, Any]]:
    """The sidecars of all pairs that are complete, by name."""
    found = sorted(out.glob(f"sub-*/**/anat/*_desc-{DESC}_*.json"))
    return [read_json(path) for path in found if not path.name.endswith("_dseg.json")]


def write_table(out: Path, sidecars: Sequence[dict[str, Any]]) -> None:
    """registrations.tsv, a row a pair."""
    with understood(out / TABLE):
        rows = [row_of(told) for told in sidecars]
    if rows:
        write_tsv(out / TABLE, rows)


def row_of(told: dict[str, Any]) -> dict[str, object]:
    """What stands in the table of a pair."""
    alike, dice = told["Similarity"], told.get("Dice", {})
    return {
        "moving": told["Moving"],
        "fixed": told["Fixed"],
        **{f"local_ncc_{when}": alike[when]["local_ncc"] for when in alike},
        **{f"dice_{when}": dice.get(when) for when in ("affine", "after")},
        "ndv_percent": told["Folding"]["ndv_percent"],
        "min_jacobian": told["Folding"]["min_jacobian"],
        "round_trip_voxels": told["RoundTrip"]["mean_voxels"],
        "seconds": told["Seconds"],
    }
