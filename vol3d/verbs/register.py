"""Register images to another one: the way between them, as every other tool can apply it."""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, NonNegativeInt, model_validator

from vol3d.config import Config
from vol3d.data.datasets import OneImage, Source, settings_at
from vol3d.data.scan_checks import ras_grid
from vol3d.data.visit import Visit, kind_said
from vol3d.distributed.shards import ALL, Shard, share, sum_up, tell
from vol3d.errors import ConfigError, DataError
from vol3d.io.files import is_free, sha256
from vol3d.io.header import read_header
from vol3d.io.lock import at_work
from vol3d.io.progress import Bar
from vol3d.io.text import brief, in_short
from vol3d.trained.registrar import NONE, Registrar, open_registrar
from vol3d.trained.registration import Side, common_grid, read_affine, register
from vol3d.trained.registration_folder import (
    KIND,
    TEMPLATES,
    Pair,
    check_names,
    finished,
    keep_template,
    read_labels,
    templates,
    write_pair,
    write_table,
)
from vol3d.trained.registration_table import fixed_visit, labelled, read_pairs
from vol3d.trained.results_folder import check_begun, claim_folder, is_complete, told_files
from vol3d.training.engine import device_of
from vol3d.transforms.resample import Interpolation
from vol3d.verbs.train import generator_at
from vol3d.volume import Grid, mni_grid

log = logging.getLogger(__name__)
ONLY_SEARCH = (
    "optimise: without a registrar nothing but the search finds anything; name one, or optimise=50"
)


def map_named(given: Any) -> Any:
    """Yes, no, or a file; what else there is of an affine map, such as its matrix, is refused."""
    if isinstance(given, bool | str | Path):
        return given
    raise ValueError(f"true, false or the file of an affine map is due, got {brief(given)}")


class Register(Config):
    """Register images: vol3d register MOVING FIXED OUT, or vol3d register pairs=pairs.tsv out=OUT.

    MOVING is a NIfTI file, a BIDS folder or a table, all of whose visits are registered to FIXED: a NIfTI
    file, or template (MNI152 at 1 mm; template2mm, template4mm). Images are stripped brains, of any
    orientation, spacing and shape. Writes the registered images, the transforms there and back for ITK,
    ANTs and vol3d transform, Jacobians, measures and pictures: a BIDS derivatives dataset. Run it again
    to register only what is missing.
    """

    positional: ClassVar[tuple[str, ...]] = ("moving", "fixed", "out")
    moving: Path | None = None
    """A NIfTI file, the folder of a BIDS dataset, or a table of images."""
    fixed: Path | None = None
    """A NIfTI file, or template, template2mm, template4mm: the MNI152 brain."""
    out: Path
    """Folder to write; new, empty, or unfinished registrations of the same settings."""
    pairs: Path | None = None
    """Instead of MOVING and FIXED: a table with the columns moving and fixed, and if wanted moving_mask,
    fixed_mask, moving_labels and fixed_labels; paths are relative to the table, fixed may be template."""
    registrar: Path = NONE
    """Bundle or run of a registrar; none: no network, the deformation is found by search alone."""
    optimise: NonNegativeInt = 50
    """Steps of search after the registrar's answer; 0: the answer as it is."""
    affine: Annotated[bool | Path, BeforeValidator(map_named)] = True
    """Find an affine map first; false where images are aligned already; or the file of one, from points
    of FIXED to points of MOVING (.mat, .txt, .tfm)."""
    spacing: Annotated[float, Field(gt=0)] | None = None
    """Voxel size in mm at which the deformation is found; if not given the registrar's own, without one
    2 mm, or FIXED's where that is larger."""
    data: Source | None = None
    """Which images of MOVING: data.contrasts=FLAIR, data.entities.desc=brain; data.labels_entities names
    label maps to move along, data.mask the brain mask of a single file."""
    labels: Path | None = None
    """Label map of a single MOVING, to move along."""
    fixed_labels: Path | None = None
    """Label map of FIXED: with it the overlap (Dice) of each label is measured."""
    fixed_mask: Path | None = None
    """Brain mask of FIXED, outside of which it becomes 0."""
    interpolation: Interpolation = "linear"
    """Of the registered image: linear, nearest or cubic. Label maps take the label with the largest
    share."""
    velocities: bool = True
    """Keep the way and not only its end, for vol3d transform ... path=9."""
    pictures: bool = True
    """Write a checkerboard, the warped grid and the Jacobian of each pair (sourcedata/pictures)."""
    shard: Shard = ALL
    """Register only a share, so that several processes share the work: 2/4 is the second of four."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""

    @model_validator(mode="before")
    @classmethod
    def find_images(cls, given: dict[str, Any]) -> dict[str, Any]:
        """MOVING is the path of the data, and tells their kind where nobody says it."""
        if given.get("moving") is None:
            return given
        return {**given, "data": settings_at(given["moving"], given.get("data"))}

    @model_validator(mode="after")
    def check_what(self) -> "Register":
        """Images are named in one way; something finds the deformation."""
        named = [n for n in ("moving", "fixed", "labels", "fixed_labels", "fixed_mask")
                 if getattr(self, n) is not None]  # fmt: skip
        if "data" in self.model_fields_set and not self.moving:
            named.append("data")
        if self.pairs and named:
            raise ValueError(f"{named[0]}: stands in the table of pairs; leave one of the two out")
        if not self.pairs and (lacking := [n for n in ("moving", "fixed") if n not in named]):
            raise ValueError(f"{lacking[0]}: is needed and was not given, or pairs=TABLE instead")
        if self.registrar == NONE and not self.optimise:
            raise ValueError(ONLY_SEARCH)
        return self

    def execute(self) -> Path:
        """Register every pair that is not there yet."""
        registrar = self.opened()
        pairs, settings = self.found(registrar), self.settings(registrar)
        with at_work(self.out, [settings, [str(pair.at.sidecar) for pair in pairs]], self.shard):
            check_begun(self.out, claim_folder(self.out, KIND, settings), settings)
            for name in {pair.fixed.image: self.template(pair.fixed) for pair in pairs}.values():
                if name:
                    keep_template(self.out, name)
            return self.work(registrar, pairs)

    def work(self, registrar: Registrar, pairs: list[Pair]) -> Path:
        """Register what is missing, in a folder that is ours."""
        ours, failed = share(pairs, self.shard), []
        with Bar("register", len(ours)) as bar:
            for pair in ours:
                try:
                    files = told_files(pair.files)
                    if not (is_complete(pair.at, files) and self.is_done(pair)):
                        self.register(registrar, pair, files)
                except DataError as error:  # of one scan; the others can be registered
                    failed.append(error)
                bar.advance()
        left = sum(not self.is_done(pair) for pair in pairs)
        tell(self.shard, left, len(pairs), "pairs")
        sum_up(lambda: finished(self.out), lambda sidecars: write_table(self.out, sidecars))
        if failed and len(ours) > 1:
            raise DataError(
                f"{len(failed)} of {len(ours)} pairs could not be registered: {in_short(failed)}"
            )
        if failed:
            raise failed[0]
        return self.out

    def register(self, registrar: Registrar, pair: Pair, files: dict[str, Any]) -> None:
        """One pair."""
        moving = Side.read(pair.moving, pair.contrast)
        fixed = Side.read(pair.fixed, next(iter(pair.fixed.images)))
        labels = [
            read_labels(s.visit, s.scan) if s.visit.label_map else None for s in (moving, fixed)
        ]
        start = time.monotonic()
        found = register(
            *(moving, fixed, registrar),
            optimise=self.optimise,
            affine=self.affine,
            spacing=self.spacing,
        )
        told = {
            "Inputs": files,
            "Registrar": registrar.checksum,
            "Optimise": self.optimise,
            "Affine": self.affine if isinstance(self.affine, bool) else self.affine.name,
            "Device": str(registrar.device),
            "Seconds": round(time.monotonic() - start, 1),
        }
        pair.at.sidecar.unlink(missing_ok=True)  # of files that are now replaced
        if self.pictures:  # before the sidecar, with which the pair is complete
            from vol3d.report.pictures import save
            from vol3d.report.registration import registration_figure

            save(registration_figure(found, pair.name), pair.picture)
        kept = {"interpolation": self.interpolation, "velocities": self.velocities}
        write_pair(pair, found, *labels, told, **kept)

    def is_done(self, pair: Pair) -> bool:
        """Whether all that is wanted of a pair is there; an earlier run may have left some out."""
        wanted = [(True, pair.at.sidecar), (self.velocities, pair.velocities),
                  (self.pictures, pair.picture)]  # fmt: skip
        return all(path.is_file() for is_wanted, path in wanted if is_wanted)

    def foresee(self) -> None:
        """What a dry run says beside the settings; it refuses what a run would."""
        registrar = self.opened("cpu")
        pairs = self.found(registrar)
        if not is_free(self.out):
            settings = self.settings(registrar)
            check_begun(self.out, claim_folder(self.out, KIND, settings), settings)
        begun = [pair for pair in pairs if pair.at.sidecar.is_file()]
        for pair in begun:
            is_complete(pair.at, told_files(pair.files))
        made = sum(self.is_done(pair) for pair in begun)
        again = len(begun) - made
        anew = f", {again} of them anew, for velocities or pictures" if again else ""
        log.info("would register %d pairs%s; %d are there", len(pairs) - made, anew, made)

    def opened(self, device: str | None = None) -> Registrar:
        """The registrar."""
        path = self.registrar if self.registrar == NONE else generator_at(self.registrar)
        return open_registrar(path, device_of(device or self.device))

    def found(self, registrar: Registrar) -> list[Pair]:
        """All pairs, whose headers were looked at, as was the file of an affine map.

        Raises:
            ConfigError: a setting is off.
            DataError: an image is not as it should be, or of another kind than the registrar knows.
        """
        if isinstance(self.affine, Path):
            read_affine(self.affine)
        if self.pairs:
            both = read_pairs(self.pairs, self.out)
        else:
            beside = self.fixed_mask, self.fixed_labels
            fixed = fixed_visit(str(self.fixed), self.fixed, *beside, self.out)
            fixed = replace(fixed, form=self.data.form)
            both = [(moving, fixed) for moving in self.moving_visits()]
            if self.fixed_labels and not any(moving.labels for moving, _ in both):
                raise ConfigError(
                    "fixed_labels: no image has a label map to compare with; name it by labels=FILE, of "
                    "a folder by data.labels_entities"
                )
        pairs = [Pair.of(self.out, m, f, contrast_of(m, registrar)) for m, f in both]
        check_names(pairs)
        for visit in {v.image: v for pair in pairs for v in (pair.moving, pair.fixed)}.values():
            check_contrast(visit, registrar)
            images = [] if self.template(visit) else [*visit.images.values()]  # is written later
            for path in [*images, *visit.labels.values(), *filter(None, [visit.mask])]:
                read_header(path, visit.form)
        for fixed in {pair.fixed.image: pair.fixed for pair in pairs}.values():
            registrar.check_grid(common_grid(self.grid_of(fixed), registrar, self.spacing))
        return pairs

    def moving_visits(self) -> list[Visit]:
        """Those of MOVING, in order.

        Raises:
            ConfigError: a label map is named for several.
        """
        source = self.data.model_copy(
            update={"grid": (), "volumes": {}, "tables": [], "levels": {}}
        )
        visits = sorted(source.chosen(), key=lambda visit: visit.name)
        if self.labels is None:
            return visits
        if not isinstance(source, OneImage):
            raise ConfigError(
                "labels: is the label map of a single image; of a folder data.labels_entities says "
                "which they are"
            )
        return [labelled(visit, self.labels) for visit in visits]

    def grid_of(self, fixed: Visit) -> Grid:
        """Where a fixed image lies, in RAS+."""
        if name := self.template(fixed):
            return mni_grid(TEMPLATES[name])
        return ras_grid(read_header(fixed.image, fixed.form))

    def template(self, visit: Visit) -> str | None:
        """By which name the template was given as this fixed image; None where it is another image."""
        return templates(self.out).get(visit.image)

    def settings(self, registrar: Registrar) -> dict[str, Any]:
        """What results depend on, beside the images."""
        return {
            "registrar": registrar.checksum,
            "optimise": self.optimise,
            "affine": self.affine if isinstance(self.affine, bool) else sha256(self.affine),
            "spacing": self.spacing,
            "interpolation": self.interpolation,
        }


def contrast_of(visit: Visit, registrar: Registrar) -> str:
    """Which image of a visit is looked at: one of a kind that the registrar knows, or the first."""
    return next((c for c in visit.images if c in registrar.contrasts), next(iter(visit.images)))


def check_contrast(visit: Visit, registrar: Registrar) -> None:
    """Refuse, by a DataError, an image whose name says another kind than the registrar learnt from."""
    said = kind_said(visit.images[contrast_of(visit, registrar)])
    if said and registrar.contrasts and said not in registrar.contrasts:
        raise DataError(
            f"{visit.image}: is a {said}, the registrar {registrar.path} learnt from "
            f"{' and '.join(registrar.contrasts)}; take one of {said}, or registrar=none"
        )
