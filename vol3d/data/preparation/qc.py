"""Numbers that tell whether a prepared scan came out well, and which ones stand out."""

import numpy as np
from scipy.special import entr

MIN_SCANS = 8
"""Fewer scans have no spread to stand out from."""
OUTLIER_Z = 3.5
"""Iglewicz and Hoaglin 1993, How to detect and handle outliers: a modified z-score above this."""
LEAST = {"overlap": 0.85, "filled": 0.82}
"""Below this the brain is not where the template's is, however alike the scans are; or part of it is
lost: what is there was fitted as well as it could be, and fills so little of the template's."""
MOST = {"cut_percent": 1.0}
"""Above this, part of the brain lies outside the field of view."""
BINS = 32


def normalised_mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """(H(a) + H(b)) / H(a, b) of paired values: 1 unrelated, 2 the same (Studholme et al. 1999)."""
    joint, _, _ = np.histogram2d(a.ravel(), b.ravel(), bins=BINS)
    p = joint / joint.sum()
    a, b, both = (float(entr(q).sum()) for q in (p.sum(0), p.sum(1), p))  # entropies, nats
    return (a + b) / both


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Which share of the smaller mask lies in the other: Dice falls with size alone, this does not."""
    a, b = a > 0, b > 0
    return float((a & b).sum() / max(min(a.sum(), b.sum()), 1))


def robust_z(values: np.ndarray) -> np.ndarray:
    """How far each value is from the median, in standard deviations as the MAD tells them; NaN stays."""
    away = values - np.nanmedian(values)
    mad = np.nanmedian(np.abs(away))
    return 0.6745 * away / mad if mad > 0 else np.zeros_like(away)


def flags(rows: list[dict[str, float | None]]) -> list[str]:
    """What stands out in each row, as words; empty where nothing does."""
    found = [misplaced(row) for row in rows]
    if len(rows) >= MIN_SCANS:
        for name in rows[0]:
            z = robust_z(np.array([row[name] for row in rows], float))
            for words, value in zip(found, z, strict=True):
                if abs(value) > OUTLIER_Z:
                    words.append(f"{name} {'high' if value > 0 else 'low'}")
    return ["; ".join(words) for words in found]


def misplaced(row: dict[str, float | None]) -> list[str]:
    """What is wrong with a scan whatever the others look like."""
    low = [f"{name} below {least}" for name, least in LEAST.items() if row[name] < least]
    high = [f"{name} above {most:g}" for name, most in MOST.items() if row[name] > most]
    put = f"{row['offset']:g} was put on all intensities" if row["offset"] else ""
    return low + high + ([put] if put else [])
