"""What a registration is measured by; and a search that finds the embedded cohort's true field."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.transforms.test_warp import SHAPE, swirl
from vol3d.metrics.folding import folding
from vol3d.metrics.registration import (
    endpoint_error,
    label_overlap,
    moved_labels,
    round_trip,
    true_displacement,
)
from vol3d.trained.registrar import open_registrar
from vol3d.transforms.displacement import to_mm, to_voxels
from vol3d.transforms.field_file import read_field
from vol3d.transforms.warp import integrate, warp
from vol3d.volume import Volume


def person(cohort: Path, who: str) -> tuple[Tensor, Tensor]:
    """An image [1, 1, X, Y, Z], and the displacement to the template, [1, 3, X, Y, Z] in voxels."""
    [image] = cohort.glob(f"sub-{who}/anat/*_desc-brain_T1w.nii.gz")
    [field] = cohort.glob(f"sourcedata/sub-{who}/*_xfm.nii.gz")
    u, grid = read_field(field)
    data = Volume.read(image).data.astype(np.float32) / 255
    return torch.from_numpy(data)[None, None], torch.from_numpy(to_voxels(u, grid))[None]


def test_a_search_finds_the_true_field(cohort: Path):
    (moving, of_moving), (fixed, of_fixed) = (person(cohort, who) for who in ("0001", "0002"))
    truth = true_displacement(of_moving, of_fixed)
    # The truth itself makes them alike, up to contrast, noise and what the grid loses.
    off = [(x - fixed)[fixed > 0].square().mean() for x in (moving, warp(moving, truth))]
    assert off[1] < 0.2 * off[0]
    found = open_registrar("none")(moving, fixed, optimise=16)
    u = found.displacement()
    before, after = (endpoint_error(x, truth, fixed) for x in (0 * u, u))
    assert before["endpoint_mean"] > 1.0
    assert after["endpoint_mean"] < 0.5 * before["endpoint_mean"]
    trip = round_trip(u, found.inverse(), fixed)
    assert trip["round_trip_mean"] < 0.1
    grid = Volume.read(next(cohort.glob("sub-0001/anat/*_T1w.nii.gz"))).grid
    assert folding(to_mm(u[0].numpy(), grid), grid)["ndv_percent"] == 0


def test_errors_of_a_shift():
    mask = torch.ones(1, 1, *SHAPE)
    u = torch.zeros(1, 3, *SHAPE)
    u[:, 0], u[:, 1] = 3, 4
    assert endpoint_error(u, 0 * u, mask) == {
        "endpoint_mean": 5,
        "endpoint_95": 5,
        "endpoint_max": 5,
    }
    assert round_trip(u, -u, mask)["round_trip_max"] < 1e-5
    v = swirl(2.0)
    assert round_trip(integrate(v), integrate(-v), mask)["round_trip_mean"] < 0.02


def test_overlap_of_labels():
    a, b = np.array([[[0, 1, 1, 2, 5]]]), np.array([[[1, 1, 1, 2, 4]]])
    assert label_overlap(a, b) == {1: pytest.approx(0.8), 2: 1.0}


def test_moved_labels_are_those_of_one_map_each():
    labels, u = torch.randint(0, 4, (1, 1, *SHAPE)), 0.3 * torch.randn(1, 3, *SHAPE)
    shares = [warp((labels == k).float(), u, outside="border") for k in range(4)]
    got = moved_labels(labels, u)
    assert got.dtype == labels.dtype
    torch.testing.assert_close(got, torch.cat(shares, 1).argmax(1, keepdim=True))
    shift = torch.zeros(1, 3, *SHAPE)
    shift[:, 1] = 2
    assert moved_labels(labels, shift)[..., :-2, :].equal(labels[..., 2:, :])
