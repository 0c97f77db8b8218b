"""Volumes on another grid: exact where that can be, and as SimpleITK, ANTs and nitransforms have it."""

import numpy as np
import pytest
import SimpleITK as sitk

from tests.transforms.scenes import (
    AT_ZERO,
    FIXED,
    MOVING,
    SLOPE,
    WIDE,
    affine_matrix,
    blobs,
    points_of,
    slope,
    waves,
)  # fmt: skip
from vol3d.errors import DataError
from vol3d.grid import Grid, empty_sitk
from vol3d.transforms.field_file import write_field
from vol3d.transforms.overlap import lattice, overlap
from vol3d.transforms.resample import move_image, move_labels
from vol3d.transforms.transform import affine, chain, field, move_points
from vol3d.transforms.transform_file import read_transform, write_transform
from vol3d.volume import Volume


@pytest.fixture(scope="module")
def both() -> sitk.CompositeTransform:
    """A field, then an affine map."""
    return chain([field(waves(WIDE), WIDE), affine(affine_matrix())])


def labels_on(grid: Grid) -> Volume:
    """Three nested balls, and air."""
    r = np.linalg.norm(points_of(grid), axis=0)
    return Volume(np.digitize(-r, [-24, -16, -8]).astype(np.uint8), grid.affine)


def test_values_that_change_evenly_are_exact(both: sitk.Transform):
    """One reading for the whole chain: linear interpolation of a slope has no error at all."""
    moved = move_image(slope(MOVING), both, FIXED)
    points = points_of(FIXED).reshape(3, -1).T
    there = move_points(both, points)
    expected = (AT_ZERO + there @ SLOPE).reshape(FIXED.shape)
    index = (there - MOVING.origin) @ np.linalg.inv(MOVING.affine[:3, :3]).T
    is_inside = ((index >= 0) & (index <= np.array(MOVING.shape) - 1)).all(1).reshape(FIXED.shape)
    assert is_inside.mean() > 0.9
    assert moved.grid.matches(FIXED)
    np.testing.assert_allclose(moved.data[is_inside], expected[is_inside], atol=2e-4)


@pytest.mark.parametrize("name", ["u.nii.gz", "both.h5"])
def test_as_simpleitk_does_it_with_the_same_file(name: str, both: sitk.Transform, tmp_path):
    """SimpleITK reads the file, and an image file, by itself."""
    path, image = tmp_path / name, blobs(MOVING)
    write_transform(path, both if name == "both.h5" else field(waves(WIDE), WIDE))
    image.write(tmp_path / "image.nii.gz")
    if name == "both.h5":
        theirs = sitk.ReadTransform(path)
    else:
        theirs = sitk.DisplacementFieldTransform(sitk.ReadImage(path, sitk.sitkVectorFloat64))
    read = sitk.ReadImage(tmp_path / "image.nii.gz")
    out = sitk.Resample(read, empty_sitk(FIXED), theirs, sitk.sitkLinear, 0.0)
    expected = sitk.GetArrayFromImage(out).transpose(2, 1, 0)
    got = move_image(Volume.read(tmp_path / "image.nii.gz"), read_transform(path), FIXED).data
    assert np.ptp(expected) > 0.8
    assert np.abs(got - expected).max() < 1e-3
    assert (np.abs(got - expected) < 1e-5).mean() > 0.999


def test_probabilities_still_sum_to_one(both: sitk.Transform):
    labels = labels_on(MOVING)
    maps = [Volume((labels.data == k).astype(np.float32), MOVING.affine) for k in range(4)]
    total = sum(move_image(m, both, FIXED).data for m in maps)
    everywhere = move_image(Volume(np.ones_like(labels.data), MOVING.affine), both, FIXED).data
    np.testing.assert_allclose(total, everywhere, atol=1e-6)


def test_a_label_is_that_of_the_largest_share(both: sitk.Transform):
    labels = labels_on(MOVING)
    shares = [
        move_image(Volume((labels.data == k).astype(np.float32), MOVING.affine), both, FIXED).data
        for k in range(4)
    ]
    top, second = np.sort(shares, axis=0)[[-1, -2]]
    is_clear = (np.sum(shares, axis=0) > 0.999) & (top - second > 1e-4)
    got = move_labels(labels, both, FIXED)
    assert got.data.dtype == np.uint8
    assert is_clear.mean() > 0.8
    assert (got.data == np.argmax(shares, axis=0))[is_clear].all()


def test_edges_of_labels_are_better_than_by_the_nearest(both: sitk.Transform):
    there = move_points(both, points_of(FIXED).reshape(3, -1).T)
    truth = np.digitize(-np.linalg.norm(there, axis=1), [-24, -16, -8]).reshape(FIXED.shape)
    wrong = [
        (move_labels(labels_on(MOVING), both, FIXED, nearest=n).data != truth).mean()
        for n in (False, True)
    ]
    assert wrong[0] < 0.8 * wrong[1]


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.uint16, np.int64, np.float64])
def test_labels_of_any_type(dtype: type):
    data = np.zeros((4, 4, 4), dtype)
    data[1:3] = 1 if dtype is bool else 100
    grid = Grid(data.shape, np.eye(4))
    moved = move_labels(Volume(data, grid.affine), sitk.Transform(), grid)
    assert (moved.data == data).all()


def test_what_is_no_label():
    grid = Grid((2, 2, 2), np.eye(4))
    for value, message in ((0.5, "labels are whole numbers, it holds 0.5"), (1e10, "below 2")):
        with pytest.raises(DataError, match=message):
            move_labels(Volume(np.full((2, 2, 2), value), np.eye(4)), sitk.Transform(), grid)


def test_how_points_lie_to_a_grid():
    grid = Grid((10, 10, 10), np.diag([-2.0, 3.0, 1.0, 1.0]))
    met = overlap(np.array([[0.9, 0, 0], [1.1, 0, 0], [-18.9, 0, 0], [1001, 0, 0]]), grid)
    assert met.share == 0.5
    assert overlap(np.array([[1000.0, 0, 0], [0, -1200, 0]]), grid).gap_mm == pytest.approx(1000)
    assert overlap(lattice(FIXED), FIXED).share == 1
    assert len(lattice(Grid((1, 5, 40), np.eye(4)))) == 5 * 16


def test_ants_reads_our_files_and_moves_images_and_points_alike(tmp_path):
    """ANTs' list [field, affine] is our chain; GenericLabel is our labels; points go our way."""
    ants = pytest.importorskip("ants")
    pd = pytest.importorskip("pandas")
    write_field(tmp_path / "u.nii.gz", waves(WIDE), WIDE)
    write_transform(tmp_path / "a.mat", affine(affine_matrix()))
    files = [str(tmp_path / name) for name in ("u.nii.gz", "a.mat")]
    both = chain([read_transform(tmp_path / name) for name in ("u.nii.gz", "a.mat")])
    slope(FIXED).write(tmp_path / "fixed.nii.gz")
    fixed = ants.image_read(str(tmp_path / "fixed.nii.gz"))
    for volume, how, move in (
        (blobs(MOVING), "linear", move_image),
        (labels_on(MOVING), "genericLabel", move_labels),
    ):
        volume.write(tmp_path / "moving.nii.gz")
        moving = ants.image_read(str(tmp_path / "moving.nii.gz"))
        theirs = ants.apply_transforms(fixed, moving, files, interpolator=how).numpy()
        ours = move(volume, both, FIXED).data
        off = np.abs(theirs - ours)
        if how == "linear":
            assert off.max() < 1e-3
        else:
            assert (off > 0).mean() < 0.01
    points = np.random.default_rng(0).uniform(-20, 20, (50, 3))
    table = pd.DataFrame(points * [-1, -1, 1], columns=["x", "y", "z"])
    theirs = ants.apply_transforms_to_points(3, table, files)[["x", "y", "z"]].to_numpy()
    np.testing.assert_allclose(move_points(both, points), theirs * [-1, -1, 1], atol=1e-3)


def test_nitransforms_moves_points_alike(tmp_path):
    nitransforms = pytest.importorskip("nitransforms")
    points = np.random.default_rng(0).uniform(-20, 20, (50, 3))
    write_field(tmp_path / "u.nii.gz", waves(FIXED), FIXED)
    theirs = nitransforms.nonlinear.DenseFieldTransform.from_filename(
        tmp_path / "u.nii.gz", fmt="itk"
    )
    ours = move_points(read_transform(tmp_path / "u.nii.gz"), points)
    assert np.abs(ours - points).max() > 1
    inner = (np.abs(points) < 12).all(1)
    np.testing.assert_allclose(theirs.map(points)[inner], ours[inner], atol=0.05)  # cubic in it
    write_transform(tmp_path / "a.tfm", affine(affine_matrix()))
    theirs = nitransforms.linear.Affine.from_filename(tmp_path / "a.tfm", fmt="itk")
    np.testing.assert_allclose(
        theirs.map(points), points @ affine_matrix()[:3, :3].T + affine_matrix()[:3, 3], atol=1e-5
    )
