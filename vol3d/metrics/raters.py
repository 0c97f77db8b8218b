"""An ensemble against several raters: whether it differs from them as they do from each other.

All is counted from sizes and shared voxels of masks of one structure (`Overlaps`).
"""

import math
from dataclasses import dataclass

import numpy as np

from vol3d.data.dice import dice_of_counts
from vol3d.metrics.masks import Masks


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Voxels in masks of n members and m raters, and voxels they share.

    Attributes:
        members: [n].
        raters: [m].
        across: [n, m].
        within_members: [n, n].
        within_raters: [m, m].
        raters_union: that any rater has.
        shared_union: that any rater and any member has.
        union: that anybody has.
    """

    members: np.ndarray
    raters: np.ndarray
    across: np.ndarray
    within_members: np.ndarray
    within_raters: np.ndarray
    raters_union: int
    shared_union: int
    union: int

    @classmethod
    def of(cls, members: Masks, raters: Masks) -> "Overlaps":
        """Count them.

        Args:
            members: of an ensemble, such as `Ensemble.masks(k)`.
            raters: on the same grid.
        """
        ours, theirs = members.union, raters.union
        return cls(
            members.volumes,
            raters.volumes,
            members.overlap(raters),
            members.overlap(members),
            raters.overlap(raters),
            int(theirs.sum()),
            int((ours & theirs).sum()),
            int((ours | theirs).sum()),
        )


def iou(a: np.ndarray, b: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Intersection over union [n, m] from voxels [n], [m] and [n, m]; two empty masks agree: 1."""
    union = a[:, None] + b[None] - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 1.0)


def dice_of_pairs(a: np.ndarray, b: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Dice overlap [n, m] from voxels [n], [m] and [n, m]."""
    return dice_of_counts(a[:, None], b[None], shared)


def energy_distance(o: Overlaps) -> float:
    """Generalised energy distance squared, 2 E d(S, Y) - E d(S, S') - E d(Y, Y'), d = 1 - IoU.

    Kohl et al. 2018 (arXiv:1806.05034). All pairs count, those of a mask with itself too, so that it
    is never below 0. 0 where both sets are the same; lower is better.
    """
    apart = 1 - iou(o.members, o.raters, o.across).mean()
    members_apart = 1 - iou(o.members, o.members, o.within_members).mean()
    raters_apart = 1 - iou(o.raters, o.raters, o.within_raters).mean()
    return float(2 * apart - members_apart - raters_apart)


def matched_iou(o: Overlaps) -> float:
    """Mean IoU of the best one-to-one matching of members and raters (Hungarian method).

    Each set is repeated until both are of the least common multiple of their sizes (after Kohl
    et al. 2019, arXiv:1905.13077). 1 where every rating is drawn as often as it is given.
    """
    from scipy.optimize import linear_sum_assignment  # here: it takes a while to load

    values = iou(o.members, o.raters, o.across)
    n, m = values.shape
    common = math.lcm(n, m)
    values = np.repeat(np.repeat(values, common // n, 0), common // m, 1)
    return float(values[linear_sum_assignment(values, maximize=True)].mean())


def combined_sensitivity(o: Overlaps) -> float:
    """Sc: the share of what any rater drew that any member has; 1 where no rater drew anything."""
    return o.shared_union / o.raters_union if o.raters_union else 1.0


def maximum_dice(o: Overlaps) -> float:
    """Dmax: mean over raters of the Dice overlap with the member that is closest to each."""
    return float(dice_of_pairs(o.members, o.raters, o.across).max(0).mean())


def diversity_agreement(o: Overlaps) -> float:
    """Da = 1 - (dVmax + dVmin) / 2: whether extremes of disagreement are alike in both sets.

    Vmax and Vmin are the largest and smallest variance between two masks of a set, and dV the
    distance of members' and raters'. The paper leaves open what that variance is and over which
    voxels. Here it is that of the difference of the two masks, as in public implementations, but
    of different masks only (with itself every mask makes Vmin 0), and over the voxels that anybody
    has (over a whole volume the variance is next to 0, and Da next to 1, whatever is drawn). With
    one mask in a set its variances are 0.
    """
    if not o.union:
        return 1.0
    ours = pair_variances(o.members, o.within_members, o.union)
    theirs = pair_variances(o.raters, o.within_raters, o.union)
    return float(1 - (abs(ours.max() - theirs.max()) + abs(ours.min() - theirs.min())) / 2)


def pair_variances(voxels: np.ndarray, shared: np.ndarray, union: int) -> np.ndarray:
    """Variance over the union's voxels of a - b, for each pair of different masks; [0] without."""
    i, j = np.triu_indices(len(voxels), 1)
    if not len(i):
        return np.zeros(1)
    squares = (voxels[i] + voxels[j] - 2 * shared[i, j]) / union  # (a - b)^2 is 1 where they differ
    return squares - ((voxels[i] - voxels[j]) / union) ** 2


def collective_insight(sensitivity: float, maximum: float, agreement: float) -> float:
    """CI = 3 Sc Dmax Da / (Sc + Dmax + Da), Rahman et al. 2023 (arXiv:2304.04745)."""
    total = sensitivity + maximum + agreement
    return 3 * sensitivity * maximum * agreement / total if total else 0.0


def volume_variances(members: np.ndarray, raters: np.ndarray) -> tuple[float, float]:
    """Variance of the members' volumes, and of the raters'; NaN both, where either are fewer than two.

    Of many visits the root of the one sum over the other is the members' spread over the raters'. A mean
    of each visit's own ratio would be too large: of few raters some agree by chance, and 1 / variance
    has a mean far above 1 / its mean.

    Args:
        members: [n] in any unit.
        raters: [m] in that unit.
    """
    if len(members) < 2 or len(raters) < 2:
        return float("nan"), float("nan")
    return float(np.var(members, ddof=1)), float(np.var(raters, ddof=1))


def against_raters(members: Masks, raters: Masks) -> dict[str, float]:
    """All measures of one structure."""
    o = Overlaps.of(members, raters)
    parts = combined_sensitivity(o), maximum_dice(o), diversity_agreement(o)
    variances = volume_variances(o.members, o.raters)
    return {
        "ged_squared": energy_distance(o),
        "matched_iou": matched_iou(o),
        "combined_sensitivity": parts[0],
        "maximum_dice": parts[1],
        "diversity_agreement": parts[2],
        "collective_insight": collective_insight(*parts),
        "members_variance": variances[0],
        "raters_variance": variances[1],
    }
