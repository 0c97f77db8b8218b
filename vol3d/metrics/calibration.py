"""Whether voxels called 80 % sure are right 80 times in 100: reliability curve and its error.

Guo et al. 2017 (arXiv:1706.04599), equation 3. Voxels are to be those of a band around the
structures (`vol3d.metrics.band`); over a whole volume the background swamps everything.
"""

import numpy as np

BINS = 15
"""As in Guo et al. 2017."""


class Reliability:
    """Sums per bin of confidence, over as many voxels and people as are added.

    Voxels of all people count alike, so people with larger structures count for more.

    Attributes:
        n: [bins] voxels.
        sum_confidence: [bins].
        sum_right: [bins] voxels that came out as predicted.
    """

    def __init__(self, bins: int = BINS):
        self.n = np.zeros(bins, np.int64)
        self.sum_confidence = np.zeros(bins)
        self.sum_right = np.zeros(bins)

    def add(self, confidence: np.ndarray, right: np.ndarray) -> None:
        """Take in voxels.

        Args:
            confidence: probabilities, of any shape; bins hold their lower edge, the last one 1 too.
            right: bool of that shape: whether what had that probability is so.
        """
        confidence, bins = np.asarray(confidence, np.float64).ravel(), len(self.n)
        at = np.clip((confidence * bins).astype(int), 0, bins - 1)
        self.n += np.bincount(at, minlength=bins)
        self.sum_confidence += np.bincount(at, confidence, bins)
        self.sum_right += np.bincount(at, np.asarray(right).ravel(), bins)

    def __add__(self, other: "Reliability") -> "Reliability":
        """Of the voxels of both, in bins alike."""
        both = Reliability(len(self.n))
        both.n = self.n + other.n
        both.sum_confidence = self.sum_confidence + other.sum_confidence
        both.sum_right = self.sum_right + other.sum_right
        return both

    def curve(self) -> dict[str, np.ndarray]:
        """Mean `confidence` and share `right` of each bin, NaN where it is empty, and its `n`."""
        with np.errstate(invalid="ignore"):
            return {
                "confidence": self.sum_confidence / self.n,
                "right": self.sum_right / self.n,
                "n": self.n,
            }

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of the curve from the diagonal, by voxels."""
        total = self.n.sum()
        return (
            float(np.abs(self.sum_right - self.sum_confidence).sum() / total) if total else np.nan
        )


class Calibration:
    """Of all labels at once, and of each structure.

    Attributes:
        top: of the likeliest label: its probability, against whether it is the true one.
        structures: of each structure k = 1 ... K - 1: its probability, against whether it is there.
    """

    def __init__(self, num_labels: int, bins: int = BINS):
        self.top = Reliability(bins)
        self.structures = {k: Reliability(bins) for k in range(1, num_labels)}

    def add(self, probabilities: np.ndarray, truth: np.ndarray) -> None:
        """Take in voxels of one person.

        Args:
            probabilities: [K, n] of the voxels in the band.
            truth: [n] labels.
        """
        self.top.add(probabilities.max(0), probabilities.argmax(0) == truth)
        for k, structure in self.structures.items():
            structure.add(probabilities[k], truth == k)
