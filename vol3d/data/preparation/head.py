"""A raw head as it is read, and the brain in it."""

from pathlib import Path

import numpy as np

from vol3d.data.preparation.bias import BiasField
from vol3d.data.preparation.intensity import levelled
from vol3d.data.scan_checks import check_contrast
from vol3d.io.header import Form
from vol3d.volume import Grid, Volume


def read_head(path: Path, form: Form | None) -> tuple[Volume, Grid, float]:
    """A raw scan in RAS+ whose intensities begin at 0; its file's grid; and what was put on them.

    Raises:
        DataError: the file is not as it should be, or there is nothing to see in it.
    """
    raw = Volume.read(path, form)
    check_contrast(raw, path)
    head = raw.reorient("RAS")
    level, offset = levelled(head.data.astype(np.float32))
    return Volume(level, head.affine, head.space_code), raw.grid, offset


def brain_of(head: Volume, mask: Volume, bias: BiasField | None) -> tuple[Volume, np.ndarray]:
    """The brain without its bias field, 0 outside; and the field [X, Y, Z], 1 where `bias` is None."""
    field = bias.estimate(head, mask) if bias else np.ones_like(head.data)
    return Volume(np.maximum(head.data / field, 0) * (mask.data > 0), head.affine), field
