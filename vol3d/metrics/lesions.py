"""The separate pieces of a structure: where, how large, and how sure the ensemble is of each."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vol3d.volume import Grid


@dataclass(frozen=True)
class Lesion:
    """One connected piece of the consensus.

    Attributes:
        number: its value in the map of pieces, from 1 on; 1 is the largest.
        volume_ml: of its voxels.
        centre_mm: (x, y, z) of its centre of mass in world mm, RAS+.
        confidence: share of members whose mask touches it.
        mean_probability: over its voxels and all members.
    """

    number: int
    volume_ml: float
    centre_mm: tuple[float, float, float]
    confidence: float
    mean_probability: float


def pieces_of(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Connected pieces [X, Y, Z] of a mask, numbered from the largest, and how many there are.

    Voxels that share a face, an edge or a corner are connected (26 neighbours).
    """
    from scipy import ndimage  # here: it takes a while to load

    pieces, n = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel(), minlength=n + 1)[1:]
    rank = np.zeros(n + 1, pieces.dtype)
    rank[1 + np.argsort(-sizes, kind="stable")] = np.arange(1, n + 1)
    return rank[pieces], n


def find_lesions(
    consensus: np.ndarray, mean: np.ndarray, members: Iterable[np.ndarray], grid: Grid
) -> tuple[list[Lesion], np.ndarray]:
    """The lesions of a consensus, largest first.

    The confidence of a lesion is the share of members that have at least one voxel of it: how many
    saw something there. It is kind to large lesions, which are touched easily. The alternatives
    considered: an overlap of half the lesion, which depends on where members draw the border, so
    that a small lesion all see may count as seen by none; and the share of its voxels that members
    have on average, which is close to `mean_probability`, given beside it.

    Args:
        consensus: [X, Y, Z] bool of one structure.
        mean: [X, Y, Z] mean probability of that structure.
        members: masks [X, Y, Z] bool, one after the other, such as `Ensemble.masks(k)`.
        grid: where the voxels lie.

    Returns:
        the lesions, and the map [X, Y, Z] of their numbers, 0 elsewhere.
    """
    from scipy import ndimage

    pieces, n = pieces_of(consensus)
    if not n:
        return [], pieces
    numbers = np.arange(1, n + 1)
    touched = [np.bincount(pieces[mask], minlength=n + 1)[1:] > 0 for mask in members]
    confidence = np.mean(touched, axis=0)
    voxels = np.bincount(pieces.ravel(), minlength=n + 1)[1:]
    probability = ndimage.mean(mean, pieces, numbers)
    centres = np.array(ndimage.center_of_mass(consensus, pieces, numbers))  # [n, 3] voxels
    centres_mm = centres @ grid.affine[:3, :3].T + grid.origin
    lesions = [
        Lesion(
            number=int(i + 1),
            volume_ml=float(voxels[i]) * grid.voxel_ml,
            centre_mm=tuple(float(c) for c in centres_mm[i]),
            confidence=float(confidence[i]),
            mean_probability=float(probability[i]),
        )
        for i in range(n)
    ]
    return lesions, pieces


def lesion_detection(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float | int]:
    """How many lesions are found, and how many found ones are there.

    A lesion counts as found where the other mask has at least one of its voxels, as in the
    challenges on lesions of multiple sclerosis (Carass et al. 2017,
    doi:10.1016/j.neuroimage.2016.12.064).

    Args:
        predicted: [X, Y, Z] bool.
        truth: [X, Y, Z] bool.

    Returns:
        sensitivity (share of true lesions that are touched), precision (share of predicted lesions
        that touch a true one), n_true, n_predicted; NaN is a share of none.
    """
    found, n_true = touched_by(truth, predicted)
    right, n_predicted = touched_by(predicted, truth)
    return {
        "sensitivity": found / n_true if n_true else float("nan"),
        "precision": right / n_predicted if n_predicted else float("nan"),
        "n_true": n_true,
        "n_predicted": n_predicted,
    }


def touched_by(mask: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """How many pieces of a mask have a voxel of the other, and how many pieces there are."""
    pieces, n = pieces_of(mask)
    return int((np.bincount(pieces[other], minlength=n + 1)[1:] > 0).sum()), n
