"""A scoring under way: what `vol3d score` reads, counts and writes."""

import hashlib
import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import vol3d
from vol3d.bundle import versions
from vol3d.data.bids_writer import write_json, write_text, write_tsv
from vol3d.data.network_images import normalise
from vol3d.data.structure_volumes import label_ids
from vol3d.data.tables import few
from vol3d.data.true_labels import TrueLabels, labels_meant
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError, DataError
from vol3d.io.progress import track
from vol3d.metrics.bootstrap import FEWEST
from vol3d.metrics.scored_visit import ENTROPY, ScoredVisit, score_visit
from vol3d.metrics.segmentation_scores import Scores
from vol3d.metrics.segmentation_verdict import findings
from vol3d.report.segmentation import Evidence, segmentation_page
from vol3d.report.segmentation_pictures import Shown
from vol3d.trained.segmentations import Segmentation, find_segmentations
from vol3d.volume import Volume

if TYPE_CHECKING:
    from vol3d.verbs.score import Score

log = logging.getLogger(__name__)
TABLE = "scores.tsv"
"""Written first, so that a folder with one is that of a scoring, even of one that was stopped."""
CALIBRATION = "calibration.json"
INFORMATION = "mutual_information"
OTHER_MAPS = {INFORMATION: "_desc-mutualinformation_probseg"}
"""Measures of uncertainty beside the entropy, and how their files end."""


class Scoring:
    """A scoring under way: segmentations on one side, label maps on the other."""

    def __init__(self, asked: "Score") -> None:
        self.asked = asked
        found = find_segmentations(asked.segmentations)
        self.truth = TrueLabels(asked.data, asked.of, asked.split)
        visits = self.truth.visits
        self.pairs = [(visits[who], one) for who, one in found.items() if who in visits]
        if not self.pairs:
            raise DataError(
                f"{asked.segmentations}: none of its {len(found)} visits ({few(found)}) is among the "
                f"{len(visits)} of {asked.data.path} with {self.wanted} ({few(visits)})"
            )
        first = self.pairs[0][1]
        told = asked.structures or first.labels
        self.labels = labels_meant(told, first.structures, first.sidecar)
        for _, one in self.pairs:
            labels_meant(self.labels, one.structures, one.sidecar)
        self.names = list(self.labels)
        if unknown := [name for name in asked.lesions if name not in self.names]:
            raise ConfigError(
                f"lesions={','.join(unknown)}: no such structure; there are {', '.join(self.names)}"
            )
        self.notes = self.doubts(found)
        self.scores: Scores | None = None

    @property
    def wanted(self) -> str:
        """What a visit is scored against, in words."""
        of, split = self.asked.of, self.asked.split
        whose = f" of {' or '.join(of)}" if of else ""
        return f"a label map{whose}{f' in the split {split}' if split else ''}"

    def doubts(self, segmented: Collection[str]) -> list[str]:
        """What to know about who is scored."""
        found, due = [], self.truth.visits
        if left := len(segmented) - len(self.pairs):
            found.append(
                f"{left} of {len(segmented)} visits were not scored: they are not among those with "
                f"{self.wanted}."
            )
        if missing := [who for who in due if who not in segmented]:
            found.append(
                f"{len(missing)} of {len(due)} visits with {self.wanted} were not segmented: "
                f"{few(missing)}."
            )
        if self.learnt_from:
            found.append(
                f"{self.learnt_from} of {len(self.pairs)} visits are of the split train. If the "
                f"segmenter learnt from them, figures are too good; split=val scores the others alone."
            )
        if self.is_calibrated:
            found.append(
                "The probabilities had a temperature already when they were written: calibration is of "
                "what that left, so no calibration.json is written."
            )
        return found

    @property
    def learnt_from(self) -> int:
        """How many visits are of the split train."""
        return sum(visit.split == "train" for visit, _ in self.pairs)

    @property
    def is_calibrated(self) -> bool:
        """Whether a calibration was known when these were segmented."""
        return any("Temperature" in one.told for _, one in self.pairs)

    # -- reading ----------------------------------------------------------------------------------

    def consensus(self, one: Segmentation) -> Volume:
        """The label map, in the numbers of the structures that are scored."""
        volume = one.consensus()
        return Volume(self.renumbered(one, volume.data), volume.affine, volume.space_code)

    def renumbered(self, one: Segmentation, labels: np.ndarray) -> np.ndarray:
        """Labels of a segmentation as places in the list of structures that are scored."""
        places = np.zeros(len(one.structures) + 1, np.uint8)
        for i, name in enumerate(one.structures, 1):
            places[i] = self.names.index(name) + 1 if name in self.names else 0
        return places[np.rint(labels).astype(int).clip(0, len(one.structures))]

    def score(self) -> None:
        """Every visit by itself, and then all together."""
        asked, scored = self.asked, []
        for visit, one in track(self.pairs, "score"):
            scored.append(self.score_one(visit, one))
        self.scores = Scores(
            scored, self.names, level=asked.level, folds=asked.folds, seed=asked.seed
        )

    def score_one(self, visit: Visit, one: Segmentation) -> ScoredVisit:
        """One visit."""
        consensus, members = self.consensus(one), one.members()
        member_ml = one.member_ml(self.names)
        others = OTHER_MAPS if len(member_ml) > 1 else {}  # one member contradicts nobody
        maps = {measure: one.map(ending) for measure, ending in others.items()}
        return score_visit(
            visit.who,
            visit.subject,
            consensus.data,
            one.mean(self.names),
            self.truth.read(visit, consensus.grid, self.labels),
            member_ml,
            spacing=consensus.spacing,
            voxel_ml=consensus.grid.voxel_ml,
            uncertainty={m: volume.data for m, volume in maps.items() if volume is not None},
            members=[] if members is None else [self.renumbered(one, m) for m in members],
            lesions={name: self.names.index(name) + 1 for name in self.asked.lesions},
            seed=self.asked.seed,
        )

    # -- writing ----------------------------------------------------------------------------------

    def write(self) -> list[Path]:
        """Table, calibration, report, and scores.json last."""
        asked, scores = self.asked, self.scores
        summary = scores.summary()
        self.notes += scores.notes
        if not any(v.raters for v in scores.visits) and len(self.truth.raters) > 1:
            self.notes.append(
                "Members were not kept, so they were not compared with the raters; "
                "vol3d segment keep_members=true keeps them."
            )
        if lacking := [n for s, n in enumerate(self.names) if not scores.truth_ml(s).any()]:
            self.notes.append(
                f"No calibration.json is written: no label map that was scored has any {few(lacking)}."
            )
        segmenters = [*map(list, {tuple(one.segmenters) for _, one in self.pairs})]
        summary = {
            "vol3d": vol3d.__version__,
            "raters": self.truth.raters,
            "scored_sha256": self.digest(),
            **summary,
            "segmenters": segmenters,
            "notes": self.notes,
        }
        found = findings(summary)
        summary["amiss"] = [f.words for f in found if f.is_amiss]
        summary = without_nan(summary)
        for name in ("scores.json", CALIBRATION):  # of figures that are made anew
            (asked.out / name).unlink(missing_ok=True)
        write_tsv(asked.out / TABLE, self.rows())
        written = [asked.out / name for name in ("report.html", "scores.json")]
        if not self.is_calibrated and not lacking and scores.n_people >= FEWEST:
            written.append(asked.out / CALIBRATION)
            write_json(written[-1], {**self.ensemble(), **scores.fitted()})
        evidence = Evidence(scores, made={"command": asked.command(), **versions()})
        if asked.pictures_of_people:
            evidence.shown = [self.show(*which) for which in self.to_show()]
        write_text(asked.out / "report.html", segmentation_page(summary, evidence))
        write_json(asked.out / "scores.json", summary)
        for note in self.notes:
            log.warning("note: %s", note)
        for finding in found:
            if finding.is_amiss:
                log.warning("warning: %s", finding.words)
            else:
                log.info("%s", finding.words)
        return written

    def ensemble(self) -> dict[str, Any]:
        """Of which ensemble a calibration is, and with no other does it go."""
        one = self.pairs[0][1]
        return {
            "vol3d": vol3d.__version__,
            "segmenters": one.segmenters,
            "samplers": one.told.get("Samplers"),
            "members": len(self.scores.visits[0].member_ml),
            "structures": sorted(self.names),
            "learnt_from": self.learnt_from,
        }

    def digest(self) -> str:
        """The SHA-256 of who was scored and what was true: scorings of one can be compared."""
        labels = {name: sorted(label_ids(of)) for name, of in sorted(self.labels.items())}
        places = [self.names.index(name) for name in labels]
        told = [[v.name, [v.truth_ml[s] for s in places]] for v in self.scores.visits]
        text = json.dumps([labels, self.truth.raters, sorted(told)])
        return hashlib.sha256(text.encode()).hexdigest()

    def rows(self) -> list[dict[str, object]]:
        """A row for each visit and structure."""
        rows = []
        for i, visit in enumerate(self.scores.visits):
            for s, name in enumerate(self.names):
                row = {
                    "visit": visit.name,
                    "structure": name,
                    "dice": visit.dice[s],
                    "hd95_mm": visit.hd95_mm[s],
                    "truth_ml": visit.truth_ml[s],
                    "predicted_ml": visit.member_ml[:, s].mean(),
                }
                for kind in ("credible", "conformal"):
                    ends = self.scores.intervals[name].get(kind)
                    for side, end in zip(("low", "high"), ends or (None, None), strict=True):
                        row[f"{kind}_{side}_ml"] = None if end is None else end[i]
                row["ece"] = self.scores.before[i].structures[s + 1].error
                row[f"auroc_{ENTROPY}"] = visit.detection[ENTROPY].auroc
                rows.append({k: rounded(v) for k, v in row.items()})
        return rows

    def to_show(self) -> list[tuple[str, int]]:
        """The best, the middle and the worst visit by mean Dice, and which each is."""
        dice = [np.mean(v.dice) for v in self.scores.visits]
        order = list(np.argsort(dice, kind="stable")[::-1])
        if len(order) < 3:
            return [("worst", i) if i == order[-1] else ("best", i) for i in order]
        return [("best", order[0]), ("middle", order[len(order) // 2]), ("worst", order[-1])]

    def show(self, which: str, i: int) -> Shown:
        """What the report shows of a visit, in RAS+."""
        from scipy.special import entr

        visit, one = self.pairs[i]
        consensus = self.consensus(one)
        truth = Volume(
            self.truth.read(visit, consensus.grid, self.labels)[0], consensus.affine
        ).reorient("RAS")
        entropy = Volume(entr(one.mean(self.names)).sum(0), consensus.affine).reorient("RAS")
        consensus = consensus.reorient("RAS")
        image = Volume.read(visit.image, visit.form).reorient("RAS")
        if not image.grid.matches(consensus.grid, tolerance_mm=0.01):
            image = image.resample(consensus.grid)
        dice = self.scores.visits[i].dice
        whose = next(name for name in self.truth.raters if name in visit.labels)
        by = f", outlined by {whose}" if len(self.truth.raters) > 1 else ""
        return Shown(
            f"{which}: {visit.who}{by}, Dice {np.mean(dice):.2f}",
            normalise(image.data),
            consensus.data,
            truth.data,
            entropy.data,
            consensus.spacing,
            at=int(np.argmin(dice)) + 1,
        )


def rounded(value: object) -> object:
    """A cell of a table; numbers to five digits, None for what is not known."""
    if isinstance(value, str) or value is None:
        return value
    return float(f"{value:.5g}") if np.isfinite(value) else None


def without_nan(content: Any) -> Any:
    """The same with null for numbers that are not there, which JSON cannot say."""
    if isinstance(content, dict):
        return {k: without_nan(v) for k, v in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(v) for v in content]
    if isinstance(content, float):
        return float(f"{content:.6g}") if np.isfinite(content) else None
    return content
