"""Where the brain is in an image without a skull that does not end in zeros."""

import numpy as np
from scipy import ndimage

from vol3d.data.dice import dice_of_counts
from vol3d.volume import Volume

LEVELS = tuple(i / 20 for i in range(2, 21))
"""Where the brain may end in a decoded image, in parts of Otsu's threshold."""
USUAL = 0.5
"""Where it ends if that was not measured; high for fine images, whose brains have a rim of fluid."""
RIM = 4
"""Voxels; what is further inside a brain is brain however dark it is."""


def solid(mask: Volume) -> Volume:
    """The largest piece of a mask, its holes filled."""
    pieces, n = ndimage.label(mask.data > 0)
    if n > 1:
        sizes = ndimage.sum_labels(mask.data > 0, pieces, range(1, n + 1))
        pieces = pieces == 1 + sizes.argmax()
    return Volume(ndimage.binary_fill_holes(pieces > 0), mask.affine, mask.space_code)


def brain_in(sample: Volume, level: float = USUAL) -> Volume:
    """The brain of a decoded image, whose background is a haze about 0: bool, one piece without holes.

    Args:
        sample: the image.
        level: what is brighter than this, in parts of Otsu's threshold, is brain: the decoder's own
            (`overlaps`), since how bright its haze is, and how dark the rim of its brains, is the data's.
    """
    dark = max(level * otsu(sample.data), 0.0)
    return solid(Volume(sample.data > dark, sample.affine, sample.space_code))


def overlaps(brain: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Dice overlap of a scan's brain with what is brighter in its reconstruction than each of LEVELS.

    Args:
        brain: [X, Y, Z] bool, without holes.
        y: the reconstruction, [X, Y, Z].
    """
    deep = ndimage.binary_erosion(brain, iterations=RIM)
    steps = [-np.inf, *(np.array(LEVELS) * otsu(y)), np.inf]
    mine, others = (np.histogram(y[at], steps)[0] for at in (brain & ~deep, ~brain))
    found, wrong = (n[::-1].cumsum()[::-1][1:] for n in (mine, others))  # brighter than each
    found = found + deep.sum()
    return dice_of_counts(brain.sum(), found + wrong, found)


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
