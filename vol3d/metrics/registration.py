"""How good a registration is: overlap of labels, error against a true field, the way there and back."""

from itertools import product

import numpy as np
import torch
from torch import Tensor

from vol3d.data.dice import dice_of_counts
from vol3d.transforms.inversion import invert
from vol3d.transforms.warp import compose, index_along


def label_overlap(a: np.ndarray, b: np.ndarray) -> dict[int, float]:
    """Dice of each label but 0 that both maps [X, Y, Z] have."""
    alike = np.where(a == b, a, 0)
    sizes = [
        dict(zip(*(x.tolist() for x in np.unique(m, return_counts=True)), strict=True))
        for m in (a, b, alike)
    ]
    both = {*sizes[0]} & {*sizes[1]} - {0}
    return {
        k: float(dice_of_counts(sizes[0][k], sizes[1][k], sizes[2].get(k, 0))) for k in sorted(both)
    }


def moved_labels(labels: Tensor, u: Tensor) -> Tensor:
    """A label map [1, 1, X, Y, Z] moved by u [1, 3, X, Y, Z] in voxels: the label with the largest share.

    As `vol3d.transforms.resample.move_labels`, on one grid, with the faces' labels beyond the faces. Of
    the eight voxels around a place, each votes with its weight in linear interpolation.
    """
    shape = labels.shape[2:]
    places = [u[0, i] + index_along(u, i) for i in range(3)]  # [X, Y, Z] each
    places = [p.clamp(0, n - 1) for p, n in zip(places, shape, strict=True)]
    lows = [p.floor() for p in places]
    corners = []  # label and weight of each
    for corner in product((0, 1), repeat=3):
        at = [(a + d).long().clamp(max=n - 1) for a, d, n in zip(lows, corner, shape, strict=True)]
        near = [1 - (p - a - d).abs() for p, a, d in zip(places, lows, corner, strict=True)]
        corners.append((labels[0, 0][tuple(at)], near[0] * near[1] * near[2]))
    best, largest = corners[0][0], torch.full(shape, -1.0, device=u.device)
    for label, _ in corners:
        share = sum(weight * (other == label) for other, weight in corners)
        best, largest = torch.where(share > largest, label, best), share.maximum(largest)
    return best[None, None]


def true_displacement(moving: Tensor, fixed: Tensor) -> Tensor:
    """The displacement from the fixed image to the moving one, if each is known from a common template.

    The embedded cohort knows them (`sourcedata/sub-*/*_xfm.nii.gz`).

    Args:
        moving: [1, 3, X, Y, Z] in voxels: the template at x + u(x) is the moving person at x.
        fixed: likewise, of the fixed person, on the same grid.
    """
    return compose(invert(moving)[0], fixed)


def endpoint_error(u: Tensor, truth: Tensor, mask: Tensor) -> dict[str, float]:
    """How far from the truth a displacement leads, in the units of both.

    Args:
        u: [1, 3, X, Y, Z].
        truth: likewise.
        mask: [1, 1, X, Y, Z] of the fixed image; what is above 0 counts.
    """
    return lengths("endpoint", u - truth, mask)


def round_trip(there: Tensor, back: Tensor, mask: Tensor) -> dict[str, float]:
    """How far from where it began a point comes to lie after the way there and back, in voxels.

    Args:
        there: [1, 3, X, Y, Z] in voxels, from the fixed to the moving image.
        back: from the moving to the fixed image.
        mask: [1, 1, X, Y, Z] of the fixed image; what is above 0 counts.
    """
    return lengths("round_trip", compose(back, there), mask)


def lengths(name: str, u: Tensor, mask: Tensor) -> dict[str, float]:
    """Mean, 95th percentile and largest length of vectors in a mask."""
    r = u.double().norm(dim=1, keepdim=True)[mask > 0].numpy()
    return {
        f"{name}_mean": float(r.mean()),
        f"{name}_95": float(np.percentile(r, 95)),
        f"{name}_max": float(r.max()),
    }
