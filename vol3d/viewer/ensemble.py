"""What an ensemble said of one visit, read from a folder of `vol3d segment`; without a window."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from vol3d.data.bids_writer import LABEL_SUFFIXES, parse_entities, read_maker
from vol3d.errors import DataError
from vol3d.io.header import array_of, unreadable
from vol3d.io.reading import read_json, understood
from vol3d.trained.segmentation_folder import MAKER, label_word
from vol3d.viewer.files import who_of
from vol3d.viewer.folders import short_name, visits_of
from vol3d.volume import Volume

UNCERTAINTY = {
    "entropy": "entropy",
    "mutual information": "mutualinformation",
    "variance": "variance",
}
"""What maps of uncertainty are called here, and their `desc`."""
CONSENSUS = {"consensus": "", "majority": "majority", "STAPLE": "staple"}
"""Label maps, and their `desc`."""
ROUNDING = 2e-5
"""Probabilities are stored in steps of 1 / 32767."""
BARS = 12
"""Of a histogram, at most."""


@dataclass(frozen=True)
class Histogram:
    """The volumes that members find, in ml.

    Attributes:
        edges: [bars + 1] ml.
        counts: [bars] members.
        low: of the interval that holds most members.
        high: likewise.
        share: of members that it holds.
        conformal: the interval that a calibration promises, or None.
        mean: over members.
    """

    edges: np.ndarray
    counts: np.ndarray
    low: float
    high: float
    share: float
    mean: float
    conformal: tuple[float, float] | None = None


@dataclass(frozen=True)
class FoundLesion:
    """A row of lesions.tsv.

    Attributes:
        structure: of which it is a piece.
        number: 1 is the largest.
        centre_mm: x, y, z in RAS+.
        volume_ml: its size.
        confidence: the share of members that have a voxel of it.
        mean_probability: over its voxels.
    """

    structure: str
    number: int
    centre_mm: tuple[float, float, float]
    volume_ml: float
    confidence: float
    mean_probability: float


def visits_in(out: Path) -> dict[str, Path]:
    """The sidecars of the visits of a folder: sub-X or sub-X_ses-Y -> the file.

    Raises:
        DataError: it was not written by `vol3d segment`, or holds no visit yet.
    """
    if not out.is_dir() or read_maker(out).get("Name") != MAKER:
        raise DataError(f"{out}: is no folder that {MAKER} wrote; choose the one that it was given")
    if not (found := visits_of(out)):
        raise DataError(f"{out}: no visit is complete yet; run {MAKER} again to go on")
    return found


class SegmentedVisit:
    """The maps, volumes and lesions of a visit; files are read when they are wanted.

    Attributes:
        name: of the visit.
        structures: in the order of the labels from 1.
        told: the whole sidecar.
        top: the folder that `vol3d segment` wrote.
        data: the dataset that it was segmented from; None where nobody says.
    """

    def __init__(self, sidecar: Path, data: Path | None = None) -> None:
        self.sidecar, self.told, self.data = sidecar, read_json(sidecar), data
        self.top = next(f for f in sidecar.parents if read_maker(f).get("Name") == MAKER)
        self.stem = sidecar.name.removesuffix("_dseg.json")
        self.name = self.stem
        with understood(sidecar):
            self.structures: list[str] = [str(name) for name in self.told["Structures"]]
            self.visit = str(self.told["Visit"])
            self.inputs: dict[str, dict[str, str]] = dict(self.told["Inputs"])

    def file(self, suffix: str, **entities: str) -> Path:
        """One of its images: `file("probseg", label="ventricles")`."""
        words = "".join(f"_{key}-{value}" for key, value in entities.items() if value)
        return self.sidecar.parent / f"{self.stem}{words}_{suffix}.nii.gz"

    def loaded(self) -> "SegmentedVisit":
        """Itself, with what is always shown read by now."""
        for name in ("means", "images", "raters"):
            getattr(self, name)
        return self

    # -- maps -------------------------------------------------------------------------------------

    @property
    def files(self) -> dict[str, Path]:
        """Those of all maps that may be shown, by what a map is called."""
        found = dict(self.image_files)
        for name in self.structures:
            found[f"probability of {name}"] = self.file("probseg", label=label_word(name))
        for name, desc in UNCERTAINTY.items():
            found[name] = self.file("probseg", desc=desc)
        for name, desc in CONSENSUS.items():
            found[name] = self.file("dseg", desc=desc)
        if self.members:
            found["members"] = self.file("dseg", desc="members")
        return found | self.rater_files

    @property
    def names(self) -> dict[int, str]:
        """The structures by their labels."""
        return dict(enumerate(self.structures, 1))

    def labels(self, which: str = "consensus") -> Volume:
        """A label map: consensus, majority or STAPLE."""
        return Volume.read(self.file("dseg", desc=CONSENSUS[which]))

    def probability(self, structure: str) -> Volume:
        """The mean probability of a structure."""
        return self.means[self.structures.index(structure)]

    def uncertainty(self, which: str) -> Volume:
        """Entropy or mutual information in nats, or variance."""
        return Volume.read(self.file("probseg", desc=UNCERTAINTY[which]))

    @cached_property
    def means(self) -> list[Volume]:
        """The mean probability of each structure."""
        files = [self.file("probseg", label=label_word(name)) for name in self.structures]
        return [Volume.read(path) for path in files]

    @cached_property
    def members(self) -> list[Volume]:
        """The label map of each member; none where they were not kept (keep_members=true)."""
        path = self.file("dseg", desc="members")
        if not path.is_file():
            return []
        like = self.labels()
        try:
            data = array_of(nib.load(path))
        except Exception as error:  # nibabel, zlib and the OS each raise their own
            raise unreadable(path, error) from None
        if data.shape[:3] != like.shape or data.ndim != 4:
            raise DataError(f"{path}: has shape {data.shape}, which is not that of the consensus")
        return [Volume(data[..., i], like.affine, like.space_code) for i in range(data.shape[3])]

    def above(self, threshold: float) -> Volume:
        """Labels of what has at least this mean probability; where several have, of the most probable.

        Args:
            threshold: a probability; what has none at all is never labelled.
        """
        p = np.stack([mean.data for mean in self.means])  # [S, X, Y, Z]
        best = p.max(0)
        labels = np.where((best >= threshold - ROUNDING) & (best > 0), p.argmax(0) + 1, 0)
        like = self.means[0]
        return Volume(labels.astype(np.uint8), like.affine, like.space_code)

    def volume_ml(self, labels: Volume, structure: str) -> float:
        """How much of a structure a label map has."""
        label = self.structures.index(structure) + 1
        return labels.grid.volume_ml(labels.data == label)

    # -- people -----------------------------------------------------------------------------------

    @cached_property
    def image_files(self) -> dict[str, Path]:
        """The images that it was segmented from, by contrast, as far as the dataset has them."""
        found = {}
        for contrast, told in self.inputs.items() if self.data else ():
            there = sorted(self.data.rglob(told["File"])) if contrast != "mask" else []
            if there:  # of a name that vol3d has kept, the original
                found[contrast] = min(there, key=self.is_made)
        return found

    @property
    def lacking(self) -> list[str]:
        """The names of images that it was segmented from and that are not found."""
        names = {contrast: told["File"] for contrast, told in self.inputs.items()}
        return [n for c, n in names.items() if c != "mask" and c not in self.image_files]

    def is_made(self, path: Path) -> bool:
        """Whether vol3d made a file of the dataset, or a folder in it that holds the file."""
        if path.absolute().is_relative_to(self.top.absolute()):
            return True
        inside = (folder for folder in path.parents if self.data in folder.parents)
        return any(str(read_maker(folder).get("Name")).startswith("vol3d ") for folder in inside)

    @cached_property
    def rater_files(self) -> dict[str, Path]:
        """Label maps of this visit by people, or the truth, in the dataset: by their label and `desc`."""
        found: dict[str, Path] = {}
        for suffix in LABEL_SUFFIXES if self.data else ():
            for path in sorted(self.data.rglob(f"{self.visit}_*{suffix}.nii.gz")):
                if who_of(path) != self.visit or self.is_made(path):
                    continue
                said = parse_entities(path)
                name = " ".join(said[k] for k in ("label", "desc") if k in said) or suffix
                if said.get("desc") != "brain":
                    found[name if name not in found else short_name(path)] = path
        return found

    @cached_property
    def images(self) -> dict[str, Volume]:
        """Those of `image_files`."""
        return {contrast: Volume.read(path) for contrast, path in self.image_files.items()}

    @cached_property
    def raters(self) -> dict[str, Volume]:
        """Those of `rater_files`."""
        return {name: Volume.read(path) for name, path in self.rater_files.items()}

    # -- numbers ----------------------------------------------------------------------------------

    def histogram(self, structure: str) -> Histogram:
        """The volumes that members find of a structure."""
        with understood(self.sidecar):
            of = self.told["Volumes"][structure]
            ml = np.array(of["members_ml"], float)
            low, high = float(of["low_ml"]), float(of["high_ml"])
            ends = of.get("conformal_low_ml"), of.get("conformal_high_ml")
            share = float(self.told["Interval"])
        bars = min(BARS, max(3, int(np.sqrt(len(ml)) * 2)))
        more = 0.05 * np.ptp(ml) or 1e-3 * max(ml.mean(), 1e-3)  # where all are the same
        counts, edges = np.histogram(ml, bars, (ml.min() - more, ml.max() + more))
        conformal = None if None in ends else (float(ends[0]), float(ends[1]))
        return Histogram(edges, counts, low, high, share, float(ml.mean()), conformal)

    @property
    def lesions(self) -> list[FoundLesion]:
        """All lesions that are listed, structure by structure, the largest first."""
        with understood(self.sidecar):
            return [
                lesion_of(name, one) for name, some in self.told["Lesions"].items() for one in some
            ]


def lesion_of(structure: str, one: dict[str, Any]) -> FoundLesion:
    """A lesion of a sidecar."""
    return FoundLesion(
        structure,
        int(one["number"]),
        tuple(float(one[f"{axis}_mm"]) for axis in "xyz"),
        float(one["volume_ml"]),
        float(one["confidence"]),
        float(one["mean_probability"]),
    )
