"""What an ensemble says of one image: maps where the image lies, volumes in ml, and doubts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from vol3d.config import did_you_mean
from vol3d.data.native_scan import NativeScan
from vol3d.data.network_images import HEADROOM, as_seen
from vol3d.errors import ConfigError
from vol3d.io.text import brief
from vol3d.metrics.ensemble import Ensemble
from vol3d.metrics.lesions import find_lesions
from vol3d.metrics.temperature import apply_temperature
from vol3d.metrics.volumes import conformal_interval, credible_interval
from vol3d.planes import Shown, figure_of, fullest, png_of, put_up
from vol3d.trained.calibration import Calibration
from vol3d.trained.mixture import Mixture
from vol3d.volume import Volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Consensus = Literal["mean", "majority", "staple"]
OUTLINED = 3
"""Structures with an outline of their own in a picture."""


@dataclass(frozen=True)
class Wanted:
    """What is made of an ensemble.

    Attributes:
        structures: names, in the order of the labels from 1.
        consensus: which map the label map is.
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

    @classmethod
    def of(cls, mixture: Mixture, *, calibration: Path | None = None, **rest: Any) -> "Wanted":
        """Of the ensemble that a mixture makes.

        Args:
            mixture: whose structures are found.
            calibration: the file, of this very ensemble.
            rest: the other attributes.

        Raises:
            ConfigError: no such structure, or a calibration of another ensemble.
        """
        known = mixture.structures
        for name in rest.get("lesions", ()):
            if name not in known:
                raise ConfigError(
                    f"lesions: no structure '{name}'.{did_you_mean(name, known)} There are "
                    f"{', '.join(known)}."
                )
        found = Calibration.read(calibration) if calibration else None
        if found:
            found.check(
                calibration,
                segmenters=[s.checksum for s in mixture.segmenters],
                samplers=mixture.samplers,
                members=len(mixture.dealt),
                structures=sorted(mixture.structures),
            )
        return cls(known, calibration=found, **rest)


class Segmentation:
    """What an ensemble says of one image. Each map lies where the image lies, voxel by voxel.

    Attributes:
        ensemble: the sums over members, in RAS+.
        structures: what was looked for, in the order of the labels from 1.
    """

    def __init__(self, scan: NativeScan, ensemble: Ensemble, wanted: Wanted) -> None:
        self.scan, self.ensemble, self.wanted = scan, ensemble, wanted
        self.structures = wanted.structures

    @cached_property
    def mean(self) -> np.ndarray:
        """[1 + S, X, Y, Z] mean probability of each label in RAS+, as sure as a calibration makes it."""
        mean = self.ensemble.mean
        known = self.wanted.calibration
        return apply_temperature(mean, known.temperature) if known else mean

    @cached_property
    def label_maps(self) -> dict[str, np.ndarray]:
        """[X, Y, Z] labels in RAS+ by each kind of consensus: mean, majority, staple."""
        ensemble = self.ensemble
        majority = ensemble.majority
        return {
            "mean": self.mean.argmax(0),
            "majority": majority,
            "staple": ensemble.staple() if len(ensemble) > 1 else majority,
        }

    # -- maps -------------------------------------------------------------------------------------

    @property
    def labels(self) -> Volume:
        """The consensus that was asked for: 0, or the label of a structure; int16."""
        return self.labels_by(self.wanted.consensus)

    def labels_by(self, consensus: Consensus) -> Volume:
        """The label map of another consensus: mean, majority or staple.

        Raises:
            ConfigError: there is no such.
        """
        if str(consensus) not in (known := get_args(Consensus)):
            raise ConfigError(f"consensus={brief(consensus)}: unknown. Known: {', '.join(known)}.")
        return self.scan.native(self.label_maps[consensus].astype(np.int16))

    @property
    def probabilities(self) -> dict[str, Volume]:
        """Mean probability of each structure."""
        native = map(self.scan.native, self.mean[1:])
        return dict(zip(self.structures, native, strict=True))

    @property
    def entropy(self) -> Volume:
        """Of the mean probability, nats: all the doubt there is about a voxel; see `Ensemble`."""
        return self.scan.native(self.ensemble.entropy)

    @property
    def mutual_information(self) -> Volume:
        """Of label and member, nats: how far members contradict each other."""
        return self.scan.native(self.ensemble.mutual_information)

    @property
    def variance(self) -> Volume:
        """Of the probability over members, summed over labels."""
        return self.scan.native(self.ensemble.variance.sum(0))

    # -- figures ----------------------------------------------------------------------------------

    @cached_property
    def volumes(self) -> dict[str, dict[str, Any]]:
        """Of each structure in ml: by each member, and what sums them up."""
        grid = self.scan.grid
        by_member = self.ensemble.volumes * grid.voxel_ml  # [members, 1 + S]
        counted = {"consensus": self.wanted.consensus, "majority": "majority", "staple": "staple"}
        out = {}
        for k, name in enumerate(self.structures, 1):
            ml = by_member[:, k]
            low, high = credible_interval(ml, self.wanted.interval)
            row: dict[str, Any] = {
                "mean_ml": ml.mean(),
                "median_ml": np.median(ml),
                "low_ml": low,
                "high_ml": high,
                **{
                    f"{which}_ml": grid.volume_ml(self.label_maps[map_] == k)
                    for which, map_ in counted.items()
                },
            }
            if known := self.wanted.calibration:
                ends: tuple = (None, None)
                if name in known.offsets_ml:
                    members = credible_interval(ml, known.level)
                    ends = conformal_interval(*members, known.offsets_ml[name])
                row |= {"conformal_low_ml": ends[0], "conformal_high_ml": ends[1]}
            row = {n: None if v is None else round(float(v), 5) for n, v in row.items()}
            out[name] = {**row, "members_ml": [round(float(v), 5) for v in ml]}
        return out

    @cached_property
    def lesions(self) -> dict[str, list[dict[str, Any]]]:
        """The pieces of the structures that are asked for, the largest first."""
        labels, out = self.label_maps[self.wanted.consensus], {}
        for name in self.wanted.lesions:
            k = self.structures.index(name) + 1
            found, _ = find_lesions(
                labels == k, self.mean[k], self.ensemble.masks(k), self.scan.grid
            )
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

    # -- pictures ---------------------------------------------------------------------------------

    def figure(self) -> "Figure":
        """Each structure's outline on the image with its volume, and the entropy."""
        labels = self.label_maps[self.wanted.consensus]
        first = labels == 1 if (labels == 1).any() else labels > 0
        image = HEADROOM * as_seen(next(iter(self.scan.brains.values()))).data
        shown = [
            Shown(f"{name}: {told(self.volumes[name])}", image, labels == k)
            for k, name in list(enumerate(self.structures, 1))[:OUTLINED]
        ]
        nats = math.log(self.ensemble.num_labels)
        doubt = self.ensemble.entropy / nats
        shown.append(Shown("doubt (entropy): white where all labels are alike", doubt))
        grid = self.scan.grid
        at = (grid.affine @ [*fullest(first), 1.0])[:3]
        return figure_of(shown, grid, at, f"members: {len(self.ensemble)}", limits=(0, 1))

    def show(self) -> None:
        """Show `figure` beneath the cell of a notebook, or in a window."""
        put_up(self.figure())

    def _repr_png_(self) -> bytes:
        """What a notebook shows of it."""
        return png_of(self.figure())


def told(volume: dict[str, Any]) -> str:
    """A structure's volume and the range of its members."""
    return f"{volume['mean_ml']:.1f} ml ({volume['low_ml']:.1f} to {volume['high_ml']:.1f})"


def segment(
    mixture: Mixture, scan: NativeScan, wanted: Wanted, device: torch.device | str = "cpu"
) -> Segmentation:
    """What the ensemble that a mixture makes says of a scan.

    Args:
        mixture: the segmenters.
        scan: the images.
        wanted: what is made of the ensemble.
        device: where sums over members are kept.
    """
    ensemble = Ensemble(len(mixture.structures) + 1, scan.grid.shape, device)
    for probabilities in mixture.of(scan):
        ensemble.add(probabilities)
    return Segmentation(scan, ensemble, wanted)
