"""Displacement fields as files."""

import numpy as np
import pytest

from vol3d.data.displacement import write_displacement
from vol3d.errors import DataError
from vol3d.transforms.field_file import read_field
from vol3d.volume import Volume, mni_grid


def test_round_trip(tmp_path):
    grid = mni_grid(4.0)
    u = np.random.default_rng(0).normal(0, 8, (3, *grid.shape)).astype(np.float32)
    write_displacement(tmp_path / "x.nii.gz", u, grid)
    got, where = read_field(tmp_path / "x.nii.gz")
    assert np.abs(got - u).max() < 1.1e-3
    assert where.matches(grid)
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]


def test_too_far(tmp_path):
    grid = mni_grid(4.0)
    with pytest.raises(DataError, match="a displacement of 70 mm does not fit"):
        write_displacement(tmp_path / "x.nii.gz", np.full((3, *grid.shape), 70.0), grid)


def test_an_image_is_no_displacement(tmp_path):
    Volume(np.zeros((2, 3, 4), np.uint8), np.eye(4)).write(tmp_path / "x.nii.gz")
    with pytest.raises(DataError, match="is no displacement field"):
        read_field(tmp_path / "x.nii.gz")
