"""What visits that were scored one by one say together: figures with their n and 95 % intervals."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vol3d.errors import DataError
from vol3d.metrics.agreement import agreement
from vol3d.metrics.bootstrap import FEWEST, Resampled
from vol3d.metrics.calibration import Calibration, Reliability
from vol3d.metrics.cross_fit import (
    conformal_of_others,
    first_of_each,
    folds_of,
    temperatures_of_others,
)
from vol3d.metrics.scored_visit import ScoredVisit
from vol3d.metrics.temperature import fit_temperature
from vol3d.metrics.uncertainty import ErrorDetection
from vol3d.metrics.volumes import conformal_offset, credible_interval, holds

CURVE = [i / 50 for i in range(1, 51)]
"""Coverages at which a risk-coverage curve is kept."""
AGAINST_RATERS = (
    "ged_squared",
    "matched_iou",
    "collective_insight",
    "combined_sensitivity",
    "maximum_dice",
    "diversity_agreement",
)


class Scores:
    """All figures of a set of visits.

    Attributes:
        visits: as `score_visit` gives them.
        structures: their names.
        level: the share of people whose volume an interval is to hold.
        fold: [visits] of each.
        temperatures: [visits] fitted on the other folds.
        intervals: by structure `credible` and, where there are people enough, `conformal`: low and
            high [visits] ml.
        notes: what could not be told, a line each.
    """

    def __init__(
        self,
        visits: Sequence[ScoredVisit],
        structures: Sequence[str],
        *,
        level: float = 0.9,
        folds: int = 5,
        seed: int = 0,
    ) -> None:
        self.visits, self.structures, self.level, self.seed = list(visits), structures, level, seed
        self.people = [v.person for v in visits]
        self.n_people = len(set(self.people))
        self.resampled = Resampled(self.people, seed=seed)
        self.notes: list[str] = []
        self.fold = folds_of(self.people, self.enough_folds(folds), seed)
        self.temperatures = temperatures_of_others([v.voxels for v in visits], self.fold)
        if self.n_people < 2:
            self.notes.append("One person was scored, so nothing could be fitted on other people.")
        if self.n_people < FEWEST:
            self.notes.append(
                f"Of fewer than {FEWEST} people there is no calibration for new ones."
            )
        self.before = [v.calibration() for v in self.visits]
        scaled = zip(self.visits, self.temperatures, strict=True)
        self.after = [v.calibration(t) for v, t in scaled] if self.n_people > 1 else None
        self.intervals = {name: self.intervals_of(s) for s, name in enumerate(structures)}

    def enough_folds(self, folds: int) -> int:
        """As many as asked for; each person by itself where folds would leave too few others."""
        least = int(np.ceil(1 / (1 - self.level) - 1 - 1e-9))
        others = self.n_people - int(np.ceil(self.n_people / folds))
        return folds if others >= least else self.n_people

    @property
    def members(self) -> int:
        """How many there are of each visit, at most."""
        return max(len(v.member_ml) for v in self.visits)

    # -- volumes ----------------------------------------------------------------------------------

    def truth_ml(self, s: int) -> np.ndarray:
        """[visits] true volume of a structure."""
        return np.array([v.truth_ml[s] for v in self.visits])

    def predicted_ml(self, s: int) -> np.ndarray:
        """[visits] mean volume over members."""
        return np.array([v.member_ml[:, s].mean() for v in self.visits])

    def intervals_of(self, s: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The members' own intervals, and those widened by other people."""
        own = [credible_interval(v.member_ml[:, s], self.level) for v in self.visits]
        low, high = np.array(own).T
        found = {"credible": (low, high)}
        try:
            found["conformal"] = conformal_of_others(
                low, high, self.truth_ml(s), self.people, self.fold, alpha=1 - self.level
            )
        except DataError as error:
            line = f"No conformal intervals: {error}."
            if line not in self.notes:
                self.notes.append(line)
        return found

    def of_interval(self, s: int, low: np.ndarray, high: np.ndarray) -> dict[str, Any]:
        """How often intervals hold the truth, and how wide they are."""
        return {
            "coverage": self.resampled.share(holds(low, high, self.truth_ml(s))),
            "width_ml": self.resampled.mean(high - low),
        }

    # -- structures -------------------------------------------------------------------------------

    def of_structure(self, s: int) -> dict[str, Any]:
        """All figures of one structure."""
        name, mean = self.structures[s], self.resampled.mean
        dice = [v.dice[s] for v in self.visits]
        found: dict[str, Any] = {
            "dice": {**mean(dice), "median": float(np.median(dice)), "worst": min(dice)},
            "hd95_mm": mean([v.hd95_mm[s] for v in self.visits]),
            "volume": self.of_volume(s),
            "calibration": self.of_calibration(lambda c: c.structures[s + 1]),
        }
        for key in ("member_dice", "raters_dice"):
            told = [getattr(v, key) for v in self.visits]
            if any(told):
                found[key] = mean([t[s] if t else np.nan for t in told])
        if any(v.raters for v in self.visits):
            found["raters"] = {
                key: mean([v.raters[s][key] if v.raters else np.nan for v in self.visits])
                for key in AGAINST_RATERS
            }
            found["raters"]["volume_spread"] = self.volume_spread(s)
        if any(name in v.lesions for v in self.visits):
            found["lesions"] = self.of_lesions([v.lesions[name] for v in self.visits])
        return found

    def volume_spread(self, s: int) -> dict[str, Any]:
        """How far members' volumes lie apart over how far raters' do: see `volume_variances`."""
        told = [v.raters[s] if v.raters else {} for v in self.visits]
        pairs = np.array(
            [[t.get(f"{whose}_variance", np.nan) for whose in ("members", "raters")] for t in told]
        )
        there = np.isfinite(pairs).all(1)
        of_members, of_raters = np.where(there[:, None], pairs, 0).T
        found = self.resampled.ratio(of_members, of_raters)
        ci = found["ci"] and [float(np.sqrt(end)) for end in found["ci"]]
        return {"value": float(np.sqrt(found["value"])), "ci": ci, "n": int(there.sum())}

    def of_volume(self, s: int) -> dict[str, Any]:
        """Predicted against true volumes, and their intervals."""
        found: dict[str, Any] = {
            key: self.of_interval(s, *interval)
            for key, interval in self.intervals[self.structures[s]].items()
            if key != "credible" or self.members > 1  # of one member it is a point
        }
        truth, predicted = self.truth_ml(s), self.predicted_ml(s)
        found["bias_ml"] = self.resampled.mean(predicted - truth)
        found["mae_ml"] = self.resampled.mean(np.abs(predicted - truth))
        found["truth_ml"] = self.resampled.mean(truth)
        try:
            found["agreement"] = {
                key: value
                for key, value in agreement(truth, predicted, self.people, seed=self.seed).items()
                if not key.startswith(("bias", "mae"))  # which are above
            }
        except ValueError as error:
            found["agreement"] = None
            self.notes.append(f"{self.structures[s]}: no correlation of volumes ({error}).")
        return found

    def of_lesions(self, per_visit: list[list[dict[str, float]]]) -> dict[str, Any]:
        """Lesions found of those there are, over raters and visits together."""

        def total(share: str, n: str) -> tuple[np.ndarray, np.ndarray]:
            hits = [sum(r[share] * r[n] for r in rows if r[n]) for rows in per_visit]
            return np.array(hits), np.array([sum(r[n] for r in rows) for rows in per_visit])

        return {
            "sensitivity": self.resampled.ratio(*total("sensitivity", "n_true")),
            "precision": self.resampled.ratio(*total("precision", "n_predicted")),
        }

    # -- voxels -----------------------------------------------------------------------------------

    def of_calibration(self, of: Callable[[Calibration], Reliability]) -> dict[str, Any]:
        """Calibration error and reliability curve, as it is and once fitted on other people."""
        found = {}
        for key, visits in (("before", self.before), ("after", self.after)):
            if visits is None:
                continue
            each = [of(c) for c in visits]
            whole = sum(each, Reliability())
            n = np.array([r.n for r in each])  # [visits, bins]
            apart = np.array([r.sum_right - r.sum_confidence for r in each])

            def error(w: np.ndarray, n=n, apart=apart) -> np.ndarray:
                with np.errstate(invalid="ignore"):
                    return np.abs(w @ apart).sum(1) / (w @ n).sum(1)

            found[key] = {
                "ece": {
                    "value": whole.error,
                    "ci": self.resampled.interval(error) if whole.n.sum() else None,
                    "n": int(whole.n.sum()),
                },
                "curve": {k: v.tolist() for k, v in whole.curve().items()},
            }
        return found

    def of_uncertainty(self) -> dict[str, Any]:
        """Each measure of uncertainty against errors in the band."""
        found = {}
        for measure in dict.fromkeys(m for v in self.visits for m in v.detection):
            each = [v.detection[measure] for v in self.visits if measure in v.detection]
            pooled = ErrorDetection()
            pooled.right, pooled.wrong = sum(d.right for d in each), sum(d.wrong for d in each)
            coverage, risk = (
                pooled.risk_coverage() if (pooled.right + pooled.wrong).any() else ([0, 1], [0, 0])
            )
            per_visit = [
                v.detection[measure].auroc if measure in v.detection else np.nan
                for v in self.visits
            ]
            found[measure] = {
                "auroc": self.resampled.mean(per_visit),
                "auroc_pooled": pooled.auroc,
                "aurc": pooled.aurc,
                "excess_aurc": pooled.excess_aurc,
                "error_rate": float(risk[-1]),
                "risk_coverage": {
                    "coverage": CURVE,
                    "risk": np.interp(CURVE, coverage, risk).tolist(),
                },
            }
        return found

    # -- together ---------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """All figures, as JSON would have them but for NaN."""
        structures = {name: self.of_structure(s) for s, name in enumerate(self.structures)}
        return {
            "n_visits": len(self.visits),
            "n_people": self.n_people,
            "members": self.members,
            "level": self.level,
            "dice": self.resampled.mean([float(np.mean(v.dice)) for v in self.visits]),
            "structures": structures,
            "calibration": {
                **self.of_calibration(lambda c: c.top),
                "temperatures": sorted({round(float(t), 4) for t in self.temperatures}),
            },
            "uncertainty": self.of_uncertainty(),
        }

    def fitted(self) -> dict[str, Any]:
        """What is fitted on all people, for new ones: a temperature and offsets of volumes."""
        first = first_of_each(self.people)
        conformal = {}
        for s, name in enumerate(self.structures):
            low, high = (side[first] for side in self.intervals[name]["credible"])
            truth = self.truth_ml(s)[first]
            try:
                offset = conformal_offset(low, high, truth, alpha=1 - self.level)
            except DataError:  # too few people
                break
            conformal[name] = {"offset_ml": offset, "n": int(first.sum())}
        has_voxels = any(v.labels.size for v in self.visits)
        temperature = fit_temperature(v.voxels for v in self.visits) if has_voxels else 1.0
        return {
            "temperature": temperature,
            "level": self.level,
            "conformal": conformal,
            "n_people": self.n_people,
        }
