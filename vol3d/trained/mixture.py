"""An ensemble whose members come from several segmenters in turn, on the grid of each scan."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from vol3d.data.images import has_common_grid
from vol3d.data.native_scan import NativeScan
from vol3d.data.scan_checks import CUT, MNI, PREPARE, SAME_SIZE, doubts, is_mni, outside, ras_grid
from vol3d.data.structure_volumes import label_ids
from vol3d.data.tables import few
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError, DataError
from vol3d.io.header import Header
from vol3d.io.text import brief
from vol3d.trained.members import DiffusionSegmenter, Members
from vol3d.volume import Grid

log = logging.getLogger(__name__)
APART = 1_000_000
"""Between the seeds of one segmenter and the next. From the same noise, diffusion models that learnt
from the same people draw nearly the same (Zhang et al. 2024, arXiv:2310.05264), which would be no
second opinion."""


@dataclass(frozen=True)
class Dealt:
    """Whose answer a member is.

    Attributes:
        segmenter: its place in the list.
        seed: that it is asked with.
    """

    segmenter: int
    seed: int


class Mixture:
    """Segmenters of any kind that find the same structures, as one ensemble.

    Args:
        segmenters: one or more.
        members: how many are wanted. A segmenter that is not random gives one only.
        seed: of the first member of the first segmenter; its next member has the next seed.

    Attributes:
        structures: what is found, in the order of the first segmenter.
        dealt: the members, in order; those of a smaller ensemble are the first of a larger one.

    Raises:
        ConfigError: structures differ, or there are fewer members than segmenters.
    """

    def __init__(self, segmenters: Sequence[Members], members: int, seed: int) -> None:
        self.segmenters = list(segmenters)
        self.structures = self.segmenters[0].structures
        for other in self.segmenters[1:]:
            if {*other.structures} != {*self.structures}:
                raise ConfigError(
                    f"{other.path}: finds {', '.join(other.structures)}, {self.segmenters[0].path} "
                    f"finds {', '.join(self.structures)}; members of one ensemble find the same"
                )
            for name in other.labels.keys() & self.segmenters[0].labels.keys():
                one, two = (s.labels[name] for s in (self.segmenters[0], other))
                if {*label_ids(one)} != {*label_ids(two)}:
                    raise ConfigError(
                        f"{other.path}: {name} is of labels {brief(two)}, in "
                        f"{self.segmenters[0].path} of {brief(one)}; members of an ensemble find the same"
                    )
        if members < len(self.segmenters):
            raise ConfigError(
                f"members={members}: of {len(self.segmenters)} segmenters each gives one or more"
            )
        self.dealt = deal([s.is_random for s in self.segmenters], members, seed)
        self.told: set[str] = set()

    def tell(self, wanted: int) -> None:
        """Say where there are fewer members than were asked for."""
        if len(self.dealt) < wanted:
            log.warning(
                "warning: members=%d: there are no more than %d: these segmenters are not random, and "
                "give the same answer each time",
                *(wanted, len(self.dealt)),
            )

    @property
    def contrasts(self) -> list[str]:
        """The images that any of them takes; none where it is not known."""
        return list(dict.fromkeys(c for s in self.segmenters for c in takes(s)))

    @property
    def samplers(self) -> list[dict[str, Any] | None]:
        """How each draws; None for one that draws nothing."""
        return [
            s.model.sampler.dump() if isinstance(s, DiffusionSegmenter) else None
            for s in self.segmenters
        ]

    def looks_at(self, images: Iterable[str]) -> list[str]:
        """The images of a visit that are looked at: the first, where nobody knows which are taken."""
        return [c for c in images if c in self.contrasts] or [*images][:1]

    def check(self, visits: Sequence[Visit]) -> None:
        """Each segmenter finds its images in each visit; warns of those that it can do without.

        Raises:
            DataError: a visit lacks one that is needed.
        """
        for segmenter in self.segmenters:
            due, all_due = needs(segmenter), takes(segmenter)
            for visit in visits:
                lacks = [c for c in due if c not in visit.images]
                if lacks:
                    raise DataError(
                        f"{visit.who}: has {' and '.join(visit.images)}; {segmenter.path} takes "
                        f"{' and '.join(all_due)}, and was never without {' and '.join(lacks)}"
                    )
            for name in all_due:
                without = [v.who for v in visits if name not in v.images]
                if without:
                    log.warning(
                        "warning: %d of %d visits have no %s (%s): %s is told that it is unknown, which "
                        "serves only if some had none, or it was hidden, in its training",
                        *(len(without), len(visits), name, few(without), segmenter.path),
                    )

    def of(self, scan: NativeScan) -> Iterator[Tensor]:
        """The probabilities of each label by each member, [1 + structures, X, Y, Z] on the scan's grid.

        One after another: no two are held at once, but for those that a sampler draws together.
        """
        stripped = any(s.fingerprint.get("stripped", True) for s in self.segmenters)
        for name, brain in scan.brains.items():
            for kind, reason in doubts(brain, stripped=stripped).items():
                self.tell_once(f"{scan.paths[name]}: {reason} (told once)", kind)
        grids, streams = [], []
        for k, segmenter in enumerate(self.segmenters):
            grid = self.grid(segmenter, scan.header)
            lost = max(outside(brain, grid) for brain in scan.brains.values())
            if lost > CUT:
                self.tell_once(
                    f"{scan.header.path}: {100 * lost:.0f} % of what is not 0 lie outside the grid of "
                    f"{segmenter.path}, and are background"
                )
            seen = scan.seen_on(grid)
            images = {n: x for n, x in seen.items() if n in (takes(segmenter) or [*seen][:1])}
            seeds = [d.seed for d in self.dealt if d.segmenter == k]
            grids.append(grid)
            streams.append(segmenter.members(images, seeds, grid))
        for member in self.dealt:
            names = self.segmenters[member.segmenter].structures
            order = [0, *(1 + names.index(name) for name in self.structures)]
            probabilities = next(streams[member.segmenter])[order]
            yield scan.brought_back(probabilities, grids[member.segmenter])

    def grid(self, segmenter: Members, header: Header) -> Grid:
        """The grid on which a segmenter sees a scan: its own, where its voxels have the size learnt from.

        Else one of that size and the same field of view, or in MNI space the very grid learnt from.

        Raises:
            DataError: the segmenter learnt from slices, or from a place that the scan is not in.
        """
        own, path = ras_grid(header), header.path
        learnt = nearest(segmenter.grids, own)
        flat = np.array(own.shape) == 1
        if (flat != (np.array(learnt.shape) == 1)).any():
            raise DataError(
                f"{path}: is {own}, {segmenter.path} learnt from images of {learnt}; slices and volumes "
                f"do not go together"
            )
        can_be_there = (
            is_mni(header)
            and segmenter.fingerprint["space_code"] == MNI
            and has_common_grid(segmenter.fingerprint)
        )
        alike = np.isclose(own.spacing, learnt.spacing, rtol=SAME_SIZE) | flat
        if segmenter.needs_its_grid:
            if own.matches(learnt, 0.01):
                return own
            if not can_be_there:
                raise DataError(
                    f"{path}: lies on a grid of {own}, and {segmenter.path} knows only that which it "
                    f"learnt on, {learnt}; {PREPARE} in MNI space"
                )
        elif alike.all():
            return own
        size = "x".join(f"{s:.3g}" for s in learnt.spacing)
        self.tell_once(
            f"{segmenter.path}: learnt from voxels of {size} mm; {path} ({own}) and those like it are "
            f"resampled to that{' grid' * can_be_there}, and results taken back"
        )
        if not can_be_there:
            return own.at(np.where(flat, own.spacing, learnt.spacing))
        return learnt

    def tell_once(self, words: str, kind: str = "") -> None:
        """Warn once: of a kind of reason, or else of each segmenter or image."""
        key = kind or words.partition(":")[0]
        if key not in self.told:
            self.told.add(key)
            log.warning("warning: %s", words)


def deal(are_random: Sequence[bool], members: int, seed: int) -> list[Dealt]:
    """Members from each segmenter in turn; from one that is not random one, in the first round."""
    dealt: list[Dealt] = []
    for turn in range(members):
        for k, is_random in enumerate(are_random):
            if len(dealt) < members and (is_random or turn == 0):
                dealt.append(Dealt(k, seed + k * APART + turn))
    return dealt


def takes(segmenter: Members) -> list[str]:
    """The images that a segmenter takes: those that it names, else what it learnt from; [] if unknown."""
    return segmenter.contrasts or segmenter.fingerprint.get("contrasts", [])[:1]


def needs(segmenter: Members) -> list[str]:
    """The images without which it never was: its only one, or the main one of its training."""
    names = takes(segmenter)
    main = [c for c in segmenter.fingerprint.get("contrasts", [])[:1] if c in names]
    return names if len(names) < 2 else main or names[:1]


def nearest(grids: Sequence[Grid], to: Grid) -> Grid:
    """Of several grids that whose voxels are closest in size."""
    return min(grids, key=lambda g: float(np.abs(np.log(np.divide(g.spacing, to.spacing))).sum()))
