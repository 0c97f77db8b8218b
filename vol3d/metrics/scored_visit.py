"""One visit's segmentation against its label maps: all that is counted in its voxels.

With label maps of several raters, each figure against truth is the mean over raters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vol3d.data.rng import numpy_rng
from vol3d.metrics.band import foreground_band
from vol3d.metrics.calibration import Calibration
from vol3d.metrics.lesions import lesion_detection
from vol3d.metrics.masks import Masks
from vol3d.metrics.overlap import overlap
from vol3d.metrics.raters import Overlaps, against_raters, dice_of_pairs
from vol3d.metrics.temperature import VOXELS, apply_temperature
from vol3d.metrics.uncertainty import ErrorDetection

ENTROPY = "entropy"


@dataclass(eq=False)
class ScoredVisit:
    """What is known of one visit; lists have an entry for each of S structures.

    Attributes:
        name: of the visit.
        person: whose it is.
        dice: overlap of the consensus.
        hd95_mm: distance of its surface; NaN where it or all truth has none.
        truth_ml: true volumes.
        member_ml: [members, S] volumes by each member.
        probabilities: [K, n] of voxels drawn from the band.
        labels: [raters, n] what is true there.
        detection: for each measure of uncertainty, how it stands by errors in the band.
        lesions: of structures asked for, what `lesion_detection` counts, a row for each rater.
        member_dice: mean overlap of single members; None where no members were kept.
        raters_dice: mean overlap of two raters; None where there is one.
        raters: of each structure what `against_raters` gives; empty without members and raters.
    """

    name: str
    person: str
    dice: list[float]
    hd95_mm: list[float]
    truth_ml: list[float]
    member_ml: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray
    detection: dict[str, ErrorDetection]
    lesions: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    member_dice: list[float] | None = None
    raters_dice: list[float] | None = None
    raters: list[dict[str, float]] = field(default_factory=list)

    @property
    def voxels(self) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities [K, raters n] and labels, each voxel once for each rater."""
        return np.tile(self.probabilities, len(self.labels)), self.labels.ravel()

    def calibration(self, temperature: float = 1.0) -> Calibration:
        """How sure it is against how often it is right, in the voxels drawn."""
        probabilities, labels = self.voxels
        found = Calibration(len(probabilities))
        if labels.size:
            found.add(apply_temperature(probabilities, temperature), labels)
        return found


def score_visit(
    name: str,
    person: str,
    consensus: np.ndarray,
    mean: np.ndarray,
    truths: Sequence[np.ndarray],
    member_ml: np.ndarray,
    *,
    spacing: tuple[float, float, float],
    voxel_ml: float,
    uncertainty: dict[str, np.ndarray] | None = None,
    members: Sequence[np.ndarray] = (),
    lesions: dict[str, int] | None = None,
    seed: int = 0,
) -> ScoredVisit:
    """Count all that is asked for.

    Args:
        name: of the visit; the voxels that are drawn depend on it.
        person: whose it is.
        consensus: [X, Y, Z] labels.
        mean: [K, X, Y, Z] mean probability of each label.
        truths: [X, Y, Z] labels by each rater.
        member_ml: [members, K - 1].
        spacing: mm along X, Y, Z.
        voxel_ml: of one voxel.
        uncertainty: further maps [X, Y, Z] beside the entropy of the mean.
        members: [X, Y, Z] labels of each, where they were kept.
        lesions: structures of which each piece counts, and their labels.
        seed: of the voxels drawn.
    """
    from scipy.special import entr  # here: it takes a while to load

    K = len(mean)
    per_rater = [overlap(consensus, truth, K, spacing) for truth in truths]
    band = foreground_band(consensus, *truths, spacing=spacing)
    maps = {ENTROPY: entr(mean[:, band]).sum(0)} | {
        measure: values[band] for measure, values in (uncertainty or {}).items()
    }
    detection = {}
    for measure, values in maps.items():
        detection[measure] = ErrorDetection()
        for truth in truths:
            detection[measure].add(np.maximum(values, 0), consensus[band] != truth[band])
    n = int(band.sum())
    chosen = np.flatnonzero(band)
    if n > VOXELS:
        chosen = numpy_rng("band", seed, name).choice(chosen, VOXELS, replace=False)
    scored = ScoredVisit(
        name,
        person,
        dice=np.mean([r["dice"] for r in per_rater], 0).tolist(),
        hd95_mm=[mean_known([r["hd95_mm"][k] for r in per_rater]) for k in range(K - 1)],
        truth_ml=[float(np.mean([(t == k).sum() for t in truths]) * voxel_ml) for k in range(1, K)],
        member_ml=np.asarray(member_ml, float),
        probabilities=mean.reshape(K, -1)[:, chosen].astype(np.float32),
        labels=np.stack([t.ravel()[chosen] for t in truths]).astype(np.uint8),
        detection=detection,
        lesions={
            structure: [lesion_detection(consensus == k, truth == k) for truth in truths]
            for structure, k in (lesions or {}).items()
        },
    )
    compare_members(scored, members, truths, K)
    return scored


def compare_members(
    scored: ScoredVisit, members: Sequence[np.ndarray], truths: Sequence[np.ndarray], K: int
) -> None:
    """Members, where they were kept, and raters, where there are several, one by one."""
    overlaps = []
    for k in range(1, K):
        raters = Masks.of(t == k for t in truths)
        ours = Masks.of(m == k for m in members) if len(members) else raters
        overlaps.append(Overlaps.of(ours, raters))
        if len(members) and len(truths) > 1:
            scored.raters.append(against_raters(ours, raters))
    if len(members):
        each = [dice_of_pairs(o.members, o.raters, o.across).mean() for o in overlaps]
        scored.member_dice = [float(d) for d in each]
    if len(truths) > 1:
        i, j = np.triu_indices(len(truths), 1)
        each = [dice_of_pairs(o.raters, o.raters, o.within_raters)[i, j].mean() for o in overlaps]
        scored.raters_dice = [float(d) for d in each]


def mean_known(values: Sequence[float]) -> float:
    """The mean of those that are known; NaN of none."""
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")
