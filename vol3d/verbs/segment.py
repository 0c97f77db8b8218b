"""Segment images with an ensemble: what is where, how large it is, and how sure the models are."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from vol3d.config import Config, several
from vol3d.data.bids_writer import write_text
from vol3d.data.dataset import Names
from vol3d.data.datasets import Bids, OneImage, Source, settings_at
from vol3d.data.native_scan import NativeScan
from vol3d.data.network_images import as_seen
from vol3d.data.visit import Visit, kind_said
from vol3d.distributed.shards import ALL, Shard, share, sum_up, tell
from vol3d.errors import ConfigError, DataError
from vol3d.io.files import is_free, make_folder, sha256
from vol3d.io.header import read_header
from vol3d.io.lock import at_work
from vol3d.io.progress import Bar
from vol3d.io.reading import read_json
from vol3d.io.text import in_short
from vol3d.trained.members import open_all
from vol3d.trained.mixture import Mixture, needs
from vol3d.trained.results_folder import Place, is_complete
from vol3d.trained.segmentation import Consensus, Wanted, segment
from vol3d.trained.segmentation_folder import (
    claim,
    describe,
    finished,
    label_word,
    places,
    write_tables,
)
from vol3d.trained.segmented_visit import inputs, is_whole, write_visit
from vol3d.training.engine import device_of, tell_precision
from vol3d.verbs.train import generator_at
from vol3d.volume import Volume

log = logging.getLogger(__name__)


class Segment(Config):
    """Segment images: vol3d segment BUNDLE IMAGES OUT members=16.

    IMAGES is a NIfTI file, a BIDS folder or a table; data.contrasts, data.entities and so on choose
    among them as in a training. Writes the consensus, probabilities, uncertainty and volumes of each
    image where it lies: a BIDS derivatives dataset. Run it again to segment only what is missing.
    """

    positional: ClassVar[tuple[str, ...]] = ("bundle", "images", "out")
    bundle: Annotated[list[Path], BeforeValidator(several), Field(min_length=1)]
    """Bundle or run of a segmenter: a U-Net, or a diffusion model that draws label maps. `bundle=[a,b,c]`
    takes members from each in turn. `ready` is the segmenter that comes with vol3d."""
    images: Path
    """A NIfTI file, the folder of a BIDS dataset, or a table of images."""
    out: Path
    """Folder to write; new, empty, or unfinished segmentations of the same settings."""
    members: PositiveInt = 16
    """How many segmentations of each image. A segmenter whose answer is always the same gives one."""
    seed: NonNegativeInt = 0
    """Of the first member; the next one has the next."""
    data: Source | None = None
    """Which images of IMAGES: data.contrasts=FLAIR, data.entities.desc=brain, data.form=qform; of a file,
    data.contrast and data.mask. Label maps, covariates and grids are of no account here."""
    split: Literal["train", "val"] | None = None
    """Segment those alone from whom a training with the same data learns (train), or who are held out
    (val); null segments all."""
    consensus: Consensus = "mean"
    """What the label map _dseg is: the most probable label by the mean, the vote, or STAPLE."""
    interval: float = Field(default=0.9, gt=0, lt=1)
    """The share of the members' volumes that a credible interval holds; `level` of vol3d score is the
    share of people."""
    lesions: Names = []
    """Structures whose separate pieces are listed in lesions.tsv, each with its confidence."""
    keep_members: bool = False
    """Write the label map of each member too, to compare them with several raters."""
    calibration: Path | None = None
    """calibration.json of `vol3d score`, of the same segmenters, samplers, structures and number of
    members on people held out: probabilities become as sure as they should be, and volumes have intervals
    that hold what they promise."""
    sampler: dict[str, Any] = {}
    """Changes to the sampler of diffusion models: sampler.steps=10, sampler.solver=euler."""
    micro_batch: PositiveInt | None = None
    """Members that a diffusion model draws at a time; short for sampler.micro_batch."""
    pictures: bool = True
    """Show the first visits in sourcedata/report.html, which lists the volumes of all."""
    shard: Shard = ALL
    """Segment only a share, so that several processes share the work: 2/4 is the second of four."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""

    @model_validator(mode="before")
    @classmethod
    def find_images(cls, given: dict[str, Any]) -> dict[str, Any]:
        """IMAGES is the path of the data, and tells their kind where nobody says it."""
        if "images" not in given:
            return given
        return {**given, "data": settings_at(given["images"], given.get("data"))}

    def execute(self) -> Path:
        """Segment every visit that is not there yet."""
        mixture, visits, wanted = self.opened(device_of(self.device))
        at = places(self.out, visits)
        settings = self.settings(mixture)
        told = [[v.who, [str(p) for p in v.images.values()]] for v in visits]
        with at_work(self.out, [settings, told], self.shard):
            begun = self.claim(settings)
            if begun != settings:  # on a machine of another kind
                mixture = self.mixture(device_of(self.device), begun["samplers"])
            describe(self.out, mixture.structures)
            return self.work(mixture, visits, at, wanted)

    def work(
        self, mixture: Mixture, visits: list[Visit], at: dict[str, Place], wanted: Wanted
    ) -> Path:
        """Segment what is missing, in a folder that is ours."""
        ours, failed = share(visits, self.shard), {}
        with Bar("segment", len(ours)) as bar:
            for visit in ours:
                try:
                    self.segment(mixture, visit, at[visit.who], wanted)
                except DataError as error:  # of one image; the others can be segmented
                    failed[visit.who] = error
                    if len(ours) > 1:
                        log.error("%s failed: %s", visit.who, error)
                bar.advance()
        done = [visit for visit in visits if is_whole(at[visit.who], wanted)]
        left = len(visits) - len({visit.who for visit in done} | set(failed))
        tell(self.shard, left, len(visits), "visits")
        sum_up(lambda: finished(self.out), lambda sidecars: write_tables(self.out, sidecars))
        if done and not left:
            self.report(done, at)
        if failed and len(ours) > 1:
            said = in_short(f"{who} ({error})" for who, error in failed.items())
            raise DataError(
                f"{len(failed)} of {len(ours)} visits could not be segmented, the others are in "
                f"{self.out}: {said}"
            )
        if failed:
            raise next(iter(failed.values()))
        return self.out

    def segment(self, mixture: Mixture, visit: Visit, at: Place, wanted: Wanted) -> None:
        """One visit, unless it is there."""
        files = inputs(visit, mixture.looks_at(visit.images))
        if is_complete(at, files) and is_whole(at, wanted):
            return
        scan = NativeScan.read(visit, mixture.looks_at(visit.images))
        found = segment(mixture, scan, wanted, device_of(self.device))
        told = {
            "Visit": visit.who,
            "Subject": visit.subject,
            "Session": visit.session,
            "Inputs": files,
            "Labels": next((s.labels for s in mixture.segmenters if s.labels), {}),
            "Segmenters": [s.checksum for s in mixture.segmenters],
            "Members": [
                {"Segmenter": member.segmenter, "Seed": member.seed} for member in mixture.dealt
            ],
            "Samplers": mixture.samplers,
            "Interval": self.interval,
        }
        if wanted.calibration:
            told["Temperature"] = wanted.calibration.temperature
            told["ConformalLevel"] = wanted.calibration.level
        write_visit(at, found, told)

    def report(self, visits: list[Visit], at: dict[str, Place]) -> None:
        """Volumes and pictures as one page, where the BIDS validator does not mind."""
        from vol3d.report.segmented_visits import SHOWN, SegmentedVisit, segmented_page

        shown = []
        for visit in visits[:SHOWN] if self.pictures else []:
            place, told = at[visit.who], read_json(at[visit.who].sidecar)
            contrast = next(c for c in visit.images if c in told["Inputs"])
            brain = NativeScan.read(visit, [contrast]).brains[contrast]
            maps = place.file("dseg"), place.file("probseg", desc="entropy")
            labels, entropy = (Volume.read(path).reorient("RAS") for path in maps)
            shown.append(
                SegmentedVisit(visit.who, as_seen(brain), labels, entropy, told["Volumes"])
            )
        path = make_folder(self.out / "sourcedata") / "report.html"
        write_text(path, segmented_page(finished(self.out), shown, self.interval))
        log.info("volumes%s: %s", " and pictures" * self.pictures, path)

    def foresee(self) -> None:
        """What a dry run says beside the settings; it refuses what a run would."""
        tell_precision(self.sampler.get("precision", "auto"), self.device)
        mixture, visits, wanted = self.opened("cpu")
        at = places(self.out, visits)
        if not is_free(self.out):
            self.claim(self.settings(mixture))
        made = sum(
            is_complete(at[v.who], inputs(v, mixture.looks_at(v.images)))
            and is_whole(at[v.who], wanted)
            for v in visits
        )
        log.info(
            "would segment %d visits, with %d members each; %d are there",
            *(len(visits) - made, len(mixture.dealt), made),
        )

    def opened(self, device: Any) -> tuple[Mixture, list[Visit], Wanted]:
        """The segmenters, the visits, of which each has what it needs, and what is made of them.

        Raises:
            ConfigError: a setting is off, or something is no segmenter.
            DataError: an image is not as it should be, as far as its header tells.
        """
        mixture = self.mixture(device)
        mixture.tell(self.members)
        for segmenter in mixture.segmenters:
            for words in segmenter.unfinished:
                log.warning("warning: %s: %s", segmenter.path, words)
        wanted = self.wanted(mixture)
        visits = self.visits(mixture)
        mixture.check(visits)
        for visit in visits:
            headers = [
                read_header(visit.images[name], visit.form)
                for name in mixture.looks_at(visit.images)
            ]
            for segmenter in mixture.segmenters:
                mixture.grid(segmenter, headers[0])
        return mixture, visits, wanted

    def mixture(
        self, device: Any, samplers: Sequence[dict[str, Any] | None] | None = None
    ) -> Mixture:
        """The segmenters; with these samplers, or those that they have with the changes asked for."""
        paths = [generator_at(path) for path in self.bundle]
        return Mixture(open_all(paths, device, self.changes, samplers), self.members, self.seed)

    @property
    def changes(self) -> dict[str, Any]:
        """To samplers."""
        return {**self.sampler, **({"micro_batch": self.micro_batch} if self.micro_batch else {})}

    def visits(self, mixture: Mixture) -> list[Visit]:
        """Those to segment, in order; their contrasts, where not told, are those that are taken.

        Of a folder only those that somebody has are asked for, and those that are needed.
        """
        source, contrasts = self.data.of_images_alone(), mixture.contrasts
        if contrasts and isinstance(source, Bids) and "contrasts" not in source.model_fields_set:
            needed = {c for segmenter in mixture.segmenters for c in needs(segmenter)}
            there = [c for c in contrasts if c in needed or source.matching(c, source.entities)]
            source = source.model_copy(update={"contrasts": there})
        if contrasts and isinstance(source, OneImage) and not kind_said(source.path):
            source = source.model_copy(update={"contrast": source.contrast or contrasts[0]})
        found = source.chosen()
        visits = [v for v in found if self.split in (None, v.split)]
        if not visits:
            raise ConfigError(
                f"split={self.split}: none of the {len(found)} visits is in it; who is held out, "
                f"data.val_fraction and data.split_seed say, or a column `split` of the table of people"
            )
        return sorted(visits, key=lambda visit: visit.name)

    def wanted(self, mixture: Mixture) -> Wanted:
        """What is made of the ensemble.

        Raises:
            ConfigError: no such structure, two that a file's name cannot tell apart, or a calibration of
                another ensemble.
        """
        known = mixture.structures
        words = [label_word(name) for name in known]
        if len({*words}) < len(words) or "" in words:
            raise ConfigError(
                f"{self.bundle[0]}: finds {', '.join(known)}, which names of files, in letters and "
                f"digits, cannot tell apart"
            )
        names = ("consensus", "interval", "lesions", "keep_members", "calibration")
        return Wanted.of(mixture, **{name: getattr(self, name) for name in names})

    def settings(self, mixture: Mixture) -> dict[str, Any]:
        """What results depend on, beside the images."""
        return {
            "segmenters": [s.checksum for s in mixture.segmenters],
            "samplers": mixture.samplers,
            "members": self.members,
            "seed": self.seed,
            "consensus": self.consensus,
            "interval": self.interval,
            "lesions": self.lesions,
            "keep_members": self.keep_members,
            "form": getattr(self.data, "form", None),
            "calibration": sha256(self.calibration) if self.calibration else None,
        }

    def claim(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Take the folder; the settings with which it is made."""
        return claim(self.out, settings, any_precision="precision" not in self.changes)
