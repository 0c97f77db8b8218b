"""The affine map between two brains, where one is the other, larger or smaller, turned and shifted."""

import numpy as np
import SimpleITK as sitk

from vol3d.data.preparation.alignment import centre_mm, fit
from vol3d.data.preparation.derivatives import one_thread
from vol3d.data.synthetic.person import Anatomy
from vol3d.data.synthetic.subject import make_subject
from vol3d.transforms.transform import affine, matrix_of
from vol3d.volume import Grid, Volume


def stripped(volume: Volume) -> tuple[Volume, Volume]:
    """A brain and its mask."""
    return volume, Volume(volume.data > 0, volume.affine)


def test_a_brain_of_another_size_is_laid_on_itself():
    """There and back; without the size of the masks it ends up to 120 mm off."""
    image = make_subject(0, 0, 4.0, Anatomy()).image
    one = Volume(image.data.astype(np.float32), image.affine)
    turn, truth = sitk.Euler3DTransform(), np.eye(4)
    turn.SetRotation(*np.deg2rad([22.0, -20.0, 24.0]))
    middle = centre_mm(stripped(one)[1])
    truth[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3)) * 1.25
    truth[:3, 3] = middle + np.array([-30.0, 25.0, 10.0]) - truth[:3, :3] @ middle
    room = np.diag([4.0, 4.0, 4.0, 1.0])
    room[:3, 3] = middle - 140.0
    other = one.resample(Grid((70, 75, 70), room), affine(np.linalg.inv(truth)))
    corners = np.argwhere(one.data > 0) @ one.affine[:3, :3].T + one.affine[:3, 3]
    for moving, fixed, T in ((other, one, truth), (one, other, np.linalg.inv(truth))):
        with one_thread():
            off = matrix_of(fit(*stripped(moving), *stripped(fixed))) - T
        points = corners if fixed is one else corners @ truth[:3, :3].T + truth[:3, 3]
        assert np.linalg.norm(points @ off[:3, :3].T + off[:3, 3], axis=1).max() < 2.0  # mm


def test_noise_in_air_does_not_tell_a_size():
    """Of an image that is nowhere 0 the mask is the whole field of view, twice as wide as the brain."""
    image = make_subject(0, 0, 4.0, Anatomy()).image
    one = Volume(image.data.astype(np.float32), image.affine)
    wide = one.resample(one.grid.padded(8))
    noise = np.abs(np.random.default_rng(0).normal(0, 3, wide.shape)) + 0.1
    noisy = Volume(wide.data + noise.astype(np.float32), wide.affine)
    points = np.argwhere(one.data > 0) @ one.affine[:3, :3].T + one.affine[:3, 3]
    with one_thread():
        off = matrix_of(fit(*stripped(noisy), *stripped(one))) - np.eye(4)
    assert np.linalg.norm(points @ off[:3, :3].T + off[:3, 3], axis=1).max() < 2.0  # mm
