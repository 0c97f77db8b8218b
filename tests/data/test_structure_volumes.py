"""Volumes of structures from label maps, in ml."""

import numpy as np
import pytest

from vol3d.data.structure_volumes import measure_volumes
from vol3d.volume import Volume


def test_anisotropic_and_turned_voxels():
    labels = np.zeros((6, 7, 8), np.int16)
    labels[0, :2, :5], labels[1, 0, 0], labels[2] = 3, 9, 5  # 10 voxels, 1 voxel, 56 voxels
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.5, 2, 4])  # 4 mm3 a voxel
    got = measure_volumes(Volume(labels, affine), {"a": [3, 9], "b": [5], "none": [77]})
    assert got == {"a": pytest.approx(0.044), "b": pytest.approx(0.224), "none": 0}


def test_labels_stored_as_floats():
    labels = np.array([[[1.0, 2.0, 2.0]]], np.float32)
    assert measure_volumes(Volume(labels, np.eye(4)), {"a": [2]}) == {"a": pytest.approx(0.002)}
