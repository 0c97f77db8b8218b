"""Whether a map of uncertainty is high where the segmentation is wrong, over people."""

import numpy as np

CODES = 0x7C01
"""float16 numbers from 0 to infinity, as many as there are."""


class ErrorDetection:
    """Counts right and wrong voxels at each level of uncertainty, of as many people as are added.

    The levels are the numbers of float16, from 6e-8 on three digits each: ranks are exact but for
    values closer together than that, which count as ties. So any measure of uncertainty serves, and
    most of the voxels, which are all but sure, are told apart too.

    Attributes:
        right: [levels] voxels.
        wrong: [levels] voxels.
    """

    def __init__(self):
        self.right, self.wrong = np.zeros(CODES, np.int64), np.zeros(CODES, np.int64)

    def add(self, uncertainty: np.ndarray, wrong: np.ndarray) -> None:
        """Take in voxels of one person.

        Args:
            uncertainty: 0 or more, of the voxels in the band.
            wrong: bool of that shape: whether the segmentation missed.

        Raises:
            ValueError: an uncertainty that is negative or no number.
        """
        values = np.asarray(uncertainty, np.float32).ravel()
        if not (values >= 0).all():
            raise ValueError("an uncertainty is 0 or more in every voxel")
        with np.errstate(over="ignore"):
            # Read as integers, the bits of positive floats rise with them.
            codes = np.abs(values).astype(np.float16).view(np.uint16)
        wrong = np.asarray(wrong, bool).ravel()
        self.wrong += np.bincount(codes[wrong], minlength=CODES)
        self.right += np.bincount(codes[~wrong], minlength=CODES)

    @property
    def auroc(self) -> float:
        """Probability that a wrong voxel is less sure than a right one; ties count half.

        NaN where nothing is wrong, or all.
        """
        pairs = int(self.wrong.sum()) * int(self.right.sum())
        if not pairs:
            return float("nan")
        below = np.cumsum(self.right) - self.right
        return float(np.sum(self.wrong * (below + self.right / 2)) / pairs)

    def risk_coverage(self) -> tuple[np.ndarray, np.ndarray]:
        """The share of wrong voxels among the surest, against the share of voxels that these are.

        Geifman and El-Yaniv 2017 (arXiv:1705.08500).

        Returns:
            coverage and risk, one entry for each level that occurs, the surest first.
        """
        n = self.right + self.wrong
        taken, errors = np.cumsum(n)[n > 0], np.cumsum(self.wrong)[n > 0]
        return taken / n.sum(), errors / taken

    @property
    def aurc(self) -> float:
        """Area under the risk-coverage curve: the mean risk when 1, 2, ... all voxels are taken.

        Voxels of one level are taken in random order, so this is the mean over orders.
        """
        return area(self.right, self.wrong)

    @property
    def excess_aurc(self) -> float:
        """The area above that of an ideal map, which finds all right voxels surer than the wrong.

        Geifman et al. 2019 (arXiv:1805.08206). The area itself grows with the share of errors;
        this one is 0 for the ideal, whatever their share.
        """
        right, wrong = self.right.sum(), self.wrong.sum()
        return self.aurc - area(np.array([right, 0]), np.array([0, wrong]))


def area(right: np.ndarray, wrong: np.ndarray) -> float:
    """Mean over t = 1 ... N of the expected risk among the t surest voxels.

    Within a level of n voxels and w wrong ones, after N0 and W0, the t-th has an expected risk of
    (W0 + (w / n) t) / (N0 + t). The sum over t is in closed form with harmonic numbers H:
    w + (W0 - (w / n) N0) (H(N0 + n) - H(N0)).

    Args:
        right: [levels] voxels, the surest level first.
        wrong: [levels] voxels.
    """
    from scipy.special import digamma  # here: it takes a while to load

    n = right + wrong
    right, wrong, n = right[n > 0], wrong[n > 0], n[n > 0]
    if not n.sum():
        return float("nan")
    n0, w0 = np.cumsum(n) - n, np.cumsum(wrong) - wrong
    harmonic = digamma(n0 + n + 1) - digamma(n0 + 1)  # H(m) = digamma(m + 1) + a constant
    return float(np.sum(wrong + (w0 - wrong / n * n0) * harmonic) / n.sum())
