"""The way there and back in closed form, on an oblique, anisotropic grid."""

import numpy as np
import pytest

from tests.transforms.scenes import FIXED, WIDE, affine_matrix, waves
from vol3d.metrics.round_trip import round_trip
from vol3d.transforms.transform import affine, chain, field, inverse


def test_in_voxels_of_the_grid():
    """There by two voxels along the second axis, back by one and a half."""
    steps = [np.eye(4), np.eye(4)]
    steps[0][:3, 3] = FIXED.affine[:3, :3] @ (0, 2, 0)
    steps[1][:3, 3] = FIXED.affine[:3, :3] @ (0, -1.5, 0)
    found = round_trip(*map(affine, steps), FIXED, np.ones(FIXED.shape))
    assert found == {k: pytest.approx(0.5) for k in ("mean_voxels", "p95_voxels", "max_voxels")}


def test_the_inverse_of_a_chain_leads_back():
    there = chain([field(waves(WIDE), WIDE), affine(affine_matrix())])
    mask = np.zeros(FIXED.shape)
    mask[6:-6, 6:-6, 6:-6] = 1
    assert round_trip(there, inverse(there), FIXED, mask)["mean_voxels"] < 0.1
    assert (
        round_trip(there, affine(np.linalg.inv(affine_matrix())), FIXED, mask)["mean_voxels"] > 0.5
    )
