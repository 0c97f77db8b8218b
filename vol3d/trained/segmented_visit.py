"""What an ensemble says of one visit: its maps, volumes and lesions, written beside each other."""

import gzip
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np

import vol3d
from vol3d.data.bids_writer import write_json
from vol3d.data.native_scan import NativeScan
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError
from vol3d.io.files import make_folder, whole
from vol3d.io.header import codes_of, place
from vol3d.io.reading import read_json, understood
from vol3d.metrics.ensemble import Ensemble
from vol3d.metrics.lesions import find_lesions
from vol3d.metrics.temperature import apply_temperature
from vol3d.metrics.volumes import conformal_interval, credible_interval
from vol3d.trained.results_folder import Place, short, told_files
from vol3d.trained.segmentation_folder import label_word

Consensus = Literal["mean", "majority", "staple"]
COMPUTED = ("micro_batch", "precision")
"""Settings of a sampler that say how voxels are computed, which machines differ in, not what is drawn."""
STEP = 1 / 32767
"""Probabilities are stored as int16 in steps of this; 1 is the largest."""


@dataclass(frozen=True)
class Calibration:
    """What `vol3d score` found on people held out.

    Attributes:
        temperature: that makes mean probabilities as sure as they should be.
        level: the share of people whose volume lies in an interval.
        offsets_ml: by how much the members' interval is widened, by structure.
        members: of each ensemble of which it was found; None where the file does not say.
        samplers: of its segmenters, likewise.
        segmenters: by their checksums, likewise.
    """

    temperature: float
    level: float
    offsets_ml: dict[str, float]
    members: int | None
    samplers: list[dict[str, Any] | None] | None
    segmenters: list[str] | None

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """From a JSON file.

        Raises:
            DataError: it is no calibration.
        """
        told = read_json(path)
        with understood(path):
            found = cls(
                float(told["temperature"]),
                float(told["level"]),
                {name: float(of["offset_ml"]) for name, of in told["conformal"].items()},
                *(told.get(name) for name in ("members", "samplers", "segmenters")),
            )
            if not (
                found.temperature > 0 and math.isfinite(found.temperature) and 0 < found.level < 1
            ):
                raise ValueError("a temperature above 0 and a level between 0 and 1 are due")
        return found

    def check(self, path: Path, **ensemble: object) -> None:
        """Of another ensemble it holds nothing: fewer members alone make narrower intervals.

        Args:
            path: of the file.
            ensemble: `members`, `samplers` and `segmenters` of the one that it is for.

        Raises:
            ConfigError: one of them differs, or the file does not say.
        """
        for name, now in ensemble.items():
            then = getattr(self, name)
            if as_drawn(then) != as_drawn(now):
                raise ConfigError(
                    f"calibration: {path} is of other {name} "
                    f"({'not told' if then is None else short(then)}, now {short(now)}); segment people "
                    f"held out as these, and score them again"
                )


def as_drawn(value: object) -> object:
    """What is compared of a setting: of samplers what they draw, see `COMPUTED`."""
    if isinstance(value, list):
        return [as_drawn(one) for one in value]
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if k not in COMPUTED}
    return value


@dataclass(frozen=True)
class Wanted:
    """What is made of an ensemble.

    Attributes:
        structures: names, in the order of the labels from 1.
        consensus: which map is _dseg.
        interval: the share of members that a credible interval holds.
        lesions: structures whose pieces are listed.
        keep_members: write their label maps.
        calibration: what is known from people held out.
    """

    structures: list[str]
    consensus: Consensus = "mean"
    interval: float = 0.9
    lesions: Sequence[str] = ()
    keep_members: bool = False
    calibration: Calibration | None = None


def write_visit(
    at: Place, scan: NativeScan, ensemble: Ensemble, wanted: Wanted, told: dict[str, Any]
) -> None:
    """The maps of a visit, and last its sidecar: with that it is complete.

    Args:
        at: where.
        scan: where voxels lie.
        ensemble: on the scan's grid, in RAS+.
        wanted: what is made of it.
        told: what else the sidecar says.
    """
    make_folder(at.sidecar.parent)
    mean = ensemble.mean
    if wanted.calibration:
        mean = apply_temperature(mean, wanted.calibration.temperature)
    labels = {
        "mean": mean.argmax(0),
        "majority": ensemble.majority,
        "staple": ensemble.staple() if len(ensemble) > 1 else ensemble.majority,
    }
    scan.write(labels[wanted.consensus].astype(np.int16), at.file("dseg"))
    for name in ("majority", "staple"):
        scan.write(labels[name].astype(np.int16), at.file("dseg", desc=name))
    for name, p in zip(wanted.structures, mean[1:], strict=True):
        scan.write(p, at.file("probseg", label=label_word(name)), slope=STEP)
    nats = math.log(ensemble.num_labels) * STEP  # its largest value, as 1 is that of a probability
    scan.write(ensemble.entropy, at.file("probseg", desc="entropy"), slope=nats)
    information = ensemble.mutual_information
    scan.write(information, at.file("probseg", desc="mutualinformation"), slope=nats)
    scan.write(ensemble.variance.sum(0), at.file("probseg", desc="variance"), slope=STEP)
    if wanted.keep_members:
        write_series(at.file("dseg", desc="members"), ensemble.label_maps(), len(ensemble), scan)
    write_json(
        at.sidecar,
        {
            "Description": f"consensus ({wanted.consensus}) of {len(ensemble)} segmentations",
            "Manual": False,
            "SpatialReference": at.entities.get("space", "orig"),
            "Structures": wanted.structures,
            **told,
            "Volumes": volumes(ensemble, labels, wanted, scan.grid.voxel_ml),
            "Lesions": lesions(ensemble, labels[wanted.consensus], mean, wanted, scan),
            "Vol3d": vol3d.__version__,
        },
    )


def volumes(
    ensemble: Ensemble, labels: dict[str, np.ndarray], wanted: Wanted, voxel_ml: float
) -> dict[str, dict[str, Any]]:
    """Of each structure in ml: by each member (sums of probabilities), and what sums them up."""
    by_member = ensemble.volumes * voxel_ml  # [members, 1 + S]
    out = {}
    for k, name in enumerate(wanted.structures, 1):
        ml = by_member[:, k]
        low, high = credible_interval(ml, wanted.interval)
        row: dict[str, Any] = {
            "mean_ml": ml.mean(),
            "median_ml": np.median(ml),
            "low_ml": low,
            "high_ml": high,
            **{
                f"{which}_ml": np.count_nonzero(labels[map_] == k) * voxel_ml
                for which, map_ in {
                    "consensus": wanted.consensus,
                    "majority": "majority",
                    "staple": "staple",
                }.items()
            },
        }
        if known := wanted.calibration:
            ends: tuple = (None, None)
            if name in known.offsets_ml:
                ends = conformal_interval(
                    *credible_interval(ml, known.level), known.offsets_ml[name]
                )
            row |= {"conformal_low_ml": ends[0], "conformal_high_ml": ends[1]}
        row = {n: None if v is None else round(float(v), 5) for n, v in row.items()}
        out[name] = {**row, "members_ml": [round(float(v), 5) for v in ml]}
    return out


def lesions(
    ensemble: Ensemble, labels: np.ndarray, mean: np.ndarray, wanted: Wanted, scan: NativeScan
) -> dict[str, list[dict[str, Any]]]:
    """The pieces of the structures that are asked for, the largest first."""
    out = {}
    for name in wanted.lesions:
        k = wanted.structures.index(name) + 1
        found, _ = find_lesions(labels == k, mean[k], ensemble.masks(k), scan.grid)
        out[name] = [
            {
                "number": one.number,
                **{f"{x}_mm": round(mm, 2) for x, mm in zip("xyz", one.centre_mm, strict=True)},
                "volume_ml": round(one.volume_ml, 5),
                "confidence": round(one.confidence, 4),
                "mean_probability": round(one.mean_probability, 4),
            }
            for one in found
        ]
    return out


def write_series(path: Path, maps: Iterable[np.ndarray], n: int, scan: NativeScan) -> None:
    """Label maps [X, Y, Z] uint8 in RAS+ as one 4-D image, one after the other."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((*scan.header.shape, n))
    place(header, scan.header.affine, codes_of(scan.header))
    # The time stamp and the name that gzip keeps would make equal files differ.
    with (
        whole(path) as part,
        part.open("wb") as file,
        gzip.GzipFile("", "wb", 1, file, mtime=0) as packed,
    ):
        header.write_to(packed)
        for one in maps:
            packed.write(scan.turned_back(one).tobytes("F"))


def inputs(visit: Visit, contrasts: Sequence[str]) -> dict[str, dict[str, str]]:
    """The files that a visit is segmented from, by contrast, with their checksums."""
    files = {c: path for c, path in visit.images.items() if c in contrasts}
    return told_files({**files, "mask": visit.mask})
