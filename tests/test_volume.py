"""Geometry is never lost: nibabel, SimpleITK and napari agree on where each voxel is."""

import errno
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from tests.viewer.scenes import rotation
from vol3d.errors import ConfigError, DataError, RunError
from vol3d.volume import Grid, Volume, mni_grid


def affine_of(direction: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(spacing)
    affine[:3, 3] = [-31.5, 12.25, 7.0]
    return affine


AFFINES = {
    "plain": affine_of(np.eye(3), (1, 1, 1)),
    "flipped": affine_of(np.diag([-1, 1, 1]), (1, 1, 1)),
    "all flipped": affine_of(np.diag([-1, -1, -1]), (2, 2, 2)),
    "turned axes": affine_of(np.eye(3)[:, [2, 0, 1]], (1, 1, 1)),
    "anisotropic": affine_of(np.eye(3), (0.9, 1.2, 3.3)),
    "oblique": affine_of(rotation(7, -13, 21), (1, 1, 1)),
    "oblique, flipped, anisotropic": affine_of(
        rotation(7, -13, 21) @ np.diag([-1, 1, 1]), (0.8, 1, 2.5)
    ),
}


@pytest.fixture(params=AFFINES, ids=list(AFFINES))
def volume(request: pytest.FixtureRequest) -> Volume:
    data = np.random.default_rng(0).normal(size=(9, 7, 5)).astype(np.float32)
    return Volume(data, AFFINES[request.param], 1)


def value_at(volume: Volume, world: np.ndarray) -> float:
    index = np.linalg.inv(volume.affine) @ np.append(world, 1)
    return float(volume.data[tuple(np.rint(index[:3]).astype(int))])


def some_points(volume: Volume) -> list[np.ndarray]:
    indices = [(0, 0, 0), (8, 6, 4), (3, 1, 2), (5, 6, 0)]
    return [(volume.affine @ np.array([*i, 1]))[:3] for i in indices]


def test_file_round_trip(volume: Volume, tmp_path: Path):
    volume.write(tmp_path / "v.nii.gz")
    again = Volume.read(tmp_path / "v.nii.gz")
    assert np.array_equal(again.data, volume.data)
    assert again.grid.matches(volume.grid)
    assert again.space_code == 1


def test_sform_and_qform_say_the_same(volume: Volume, tmp_path: Path):
    volume.write(tmp_path / "v.nii.gz")  # FSL reads the sform, others the qform
    header = nib.load(tmp_path / "v.nii.gz").header
    assert header["sform_code"] == header["qform_code"] == 1
    assert np.allclose(header.get_sform(), volume.affine, atol=1e-4)
    assert np.allclose(header.get_qform(), volume.affine, atol=1e-4)
    assert header.get_xyzt_units()[0] == "mm"


def test_itk_reads_the_same_value_at_the_same_place(volume: Volume, tmp_path: Path):
    volume.write(tmp_path / "v.nii.gz")
    image = sitk.ReadImage(tmp_path / "v.nii.gz")
    assert np.allclose(image.GetSpacing(), volume.spacing, atol=1e-4)
    for world in some_points(volume):
        lps = (world * [-1, -1, 1]).tolist()
        index = image.TransformPhysicalPointToIndex(lps)
        assert image.GetPixel(index) == value_at(volume, world)


def test_sitk_round_trip(volume: Volume):
    again = Volume.from_sitk(volume.to_sitk(), 1)
    assert np.array_equal(again.data, volume.data)
    assert again.grid.matches(volume.grid)


def test_napari_shows_the_same_value_at_the_same_place(volume: Volume):
    layers = pytest.importorskip("napari.layers")
    from vol3d.viewer.cursor import readings
    from vol3d.viewer.layers import image_layer
    from vol3d.viewer.straight import straight_grid

    data, settings, _ = image_layer(volume, "v")
    layer = layers.Image(data, **settings)
    for world in some_points(volume):
        (reading,) = readings([layer], world[::-1])  # napari's world is Z, Y, X
        assert reading.value == pytest.approx(value_at(volume, world))
        if straight_grid(volume.grid):  # what is drawn is the file's voxels, else it is resampled
            zyx = np.rint(layer.world_to_data(world[::-1])).astype(int)
            assert layer.data[tuple(zyx)] == value_at(volume, world)


def test_reorient_moves_no_value(volume: Volume):
    turned = volume.reorient("RAS")
    assert turned.orientation == "RAS"
    assert sorted(turned.data.ravel()) == sorted(volume.data.ravel())
    for world in some_points(volume):
        assert value_at(turned, world) == value_at(volume, world)
    assert turned.reorient(volume.orientation).grid.matches(volume.grid)
    assert volume.grid.turned("PSL").matches(volume.reorient("PSL").grid)


def test_resample_to_its_own_reoriented_grid_changes_nothing(volume: Volume):
    turned = volume.reorient("RAS")
    assert np.allclose(volume.resample(turned.grid).data, turned.data, atol=1e-4)
    assert np.array_equal(volume.resample(turned.grid, nearest=True).data, turned.data)


def test_resample_keeps_a_linear_ramp_in_world_coordinates():
    fine, coarse = mni_grid(4.0), mni_grid(8.0)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in fine.shape], indexing="ij"), -1)
    world = index @ fine.affine[:3, :3].T + fine.affine[:3, 3]
    ramp = Volume(world @ np.array([0.5, -1.0, 2.0]), fine.affine).resample(coarse)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in coarse.shape], indexing="ij"), -1)
    expected = (index @ coarse.affine[:3, :3].T + coarse.affine[:3, 3]) @ np.array([0.5, -1.0, 2.0])
    inside = (slice(2, -2),) * 3  # smoothing sees no ramp beyond the border
    assert np.allclose(ramp.data[inside], expected[inside], atol=1e-3)


def test_a_coarser_grid_sees_all_the_tissue_and_not_stripes_that_are_not_there():
    """Sheets 3 mm apart alias at 2 mm; the closed form is a Gaussian of the width that a voxel lacks."""
    fine = mni_grid(1.0)
    x = fine.affine[0, 3] + np.arange(fine.shape[0])
    wave = np.cos(2 * np.pi * x / 3)[:, None, None] * np.ones((1, 40, 40))
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.0, 0.0, np.pi / 2)
    for grid, variance in [(mni_grid(2.0), 3), (mni_grid(4.0), 15)]:
        sees = Volume(wave, fine.affine).resample(grid).data[5:15, 5:8, 5:8]
        most = np.exp(-variance / (8 * np.log(2)) * (2 * np.pi / 3) ** 2 / 2)
        assert np.abs(sees).max() <= most + 0.01
        blob = Volume(gaussian(fine, 4.0), fine.affine).resample(grid, turn)
        halfway = 1 / 4  # the variance of two neighbours' mean: linear interpolation between voxels
        expected = gaussian(grid, np.sqrt(4.0**2 + variance / (8 * np.log(2)) + halfway))
        assert np.abs(blob.data - expected).max() < 0.005


def test_a_stripped_brain_does_not_spread_into_the_air():
    grid = mni_grid(1.0)
    cube = np.zeros(grid.shape, np.float32)
    cube[60:90, 60:90, 60:90] = 1
    coarse = Volume(cube, grid.affine).resample(mni_grid(2.0)).data
    assert np.array_equal(coarse > 0, cube[::2, ::2, ::2] > 0)
    assert coarse[30, 37, 37] < 0.95 < coarse[37, 37, 37] <= 1 + 1e-6  # its edge is smoothed


def test_only_the_axis_that_gets_coarser_is_smoothed():
    thin = Grid((64, 64, 64), np.diag([1.0, 1.0, 2.0, 1.0]))
    thick = Grid((64, 64, 16), np.diag([1.0, 1.0, 5.0, 1.0]))
    same = sitk.Transform()
    assert np.allclose(thin.blur(thick, same), [0, 0, 21 / (8 * np.log(2))])
    assert not thick.blur(thin, same).any()
    quarter = sitk.Euler3DTransform()
    quarter.SetRotation(0.0, np.pi / 2, 0.0)  # the thick axis lies along the other's X
    assert np.allclose(thin.blur(thick, quarter), [24 / (8 * np.log(2)), 0, 0])


def gaussian(grid: Grid, sigma: float) -> np.ndarray:
    """A bell of height sigma^-3 around the world's origin; its sum over mm^3 does not depend on sigma."""
    axes = [grid.affine[i, 3] + grid.spacing[i] * np.arange(n) for i, n in enumerate(grid.shape)]
    r2 = sum(np.square(a) for a in np.meshgrid(*axes, indexing="ij"))
    return np.exp(-r2 / (2 * sigma**2)) * (4.0 / sigma) ** 3


def test_a_grid_that_lies_elsewhere_is_refused_and_nothing_within_is_nothing():
    volume = Volume(np.zeros((9, 7, 5), np.uint8), np.eye(4))
    volume.data[:4] = 1
    here = Grid((3, 3, 3), np.eye(4))
    corner = Grid((3, 3, 3), np.array([[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    assert volume.resample(here).data.all()
    assert not volume.resample(corner).data.any()
    away = sitk.TranslationTransform(3, [400.0, 0, 0])  # LPS+: a point of the grid goes to the left
    line = (
        r"no voxel of the grid \(3x3x3 voxels of 1x1x1 mm, RAS, around \[1, 1, 1\] mm\) lies in the "
        r"volume \(9x7x5 voxels of 1x1x1 mm, RAS, around \[4, 3, 2\] mm\) after the transform; are"
    )
    for nearest in (False, True):
        with pytest.raises(DataError, match=line):
            volume.resample(here, away, nearest=nearest)
    with pytest.raises(
        DataError, match=r"around \[101, 1, 1\] mm\) lies in .* around \[4, 3, 2\] mm\);"
    ):
        volume.resample(Grid((3, 3, 3), np.eye(4) + np.eye(4, k=3) * 100))


def test_a_mask_is_written_as_small_integers(tmp_path: Path):
    Volume(np.ones((3, 3, 3), bool), np.eye(4)).write(tmp_path / "m.nii.gz")
    assert nib.load(tmp_path / "m.nii.gz").get_data_dtype() == np.uint8


def test_stored_as_steps(tmp_path: Path):
    x = np.linspace(0, 1, 27, dtype=np.float32).reshape(3, 3, 3)
    Volume(x, np.eye(4)).write(tmp_path / "v.nii.gz", slope=1e-4)
    assert nib.load(tmp_path / "v.nii.gz").get_data_dtype() == np.int16
    assert np.abs(Volume.read(tmp_path / "v.nii.gz").data - x).max() <= 0.51e-4


def test_numpys_own_numbers_are_as_good_as_pythons(tmp_path: Path):
    x = np.arange(8, dtype=np.longdouble).reshape(2, 2, 2)
    Volume(x, np.eye(4)).write(tmp_path / "a.nii", codes=np.array([1, 4]))
    assert np.array_equal(Volume.read(tmp_path / "a.nii").data, x)
    header = nib.load(tmp_path / "a.nii").header
    assert (header["sform_code"], header["qform_code"]) == (1, 4)
    Volume(x, np.eye(4)).write(tmp_path / "b.nii", slope=np.float32(0.25), codes=[1, 1])
    assert np.array_equal(nib.load(tmp_path / "b.nii").dataobj.get_unscaled(), x * 4)


def test_coarser_grid_covers_the_same_place():
    grid = Grid((40, 56, 41), mni_grid(4.0).affine)
    half = grid.coarser(2)
    assert half.shape == (20, 28, 21)
    corner = grid.affine @ [-0.5, -0.5, -0.5, 1]  # the outer corner of the first voxel
    assert np.allclose(half.affine @ [-0.5, -0.5, -0.5, 1], corner)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (lambda g: g.coarser(0), r"factor=0: a whole number is due, 1 or more"),
        (lambda g: g.coarser(1.5), r"factor=1.5: a whole number is due"),
        (lambda g: g.padded("a"), r"voxels='a': a whole number is due, 0 or more"),
        (lambda _: Volume.from_sitk(3), r"image: one of SimpleITK is due, got int"),
        (
            lambda _: Volume.from_sitk(sitk.Image(4, 5, sitk.sitkUInt8)),
            r"three axes are due, it has 2",
        ),
        (
            lambda _: Volume.from_sitk(sitk.Image([4, 5, 6], sitk.sitkVectorFloat32, 3)),
            r"image: one number a voxel is due, it has 3",
        ),
    ],
)
def test_a_wrong_argument_is_one_line(wrong: Callable[[Grid], object], line: str):
    with pytest.raises(ConfigError, match=line):
        wrong(mni_grid(4.0))


def test_a_masks_volume_is_that_of_its_voxels():
    grid = Grid((9, 7, 5), AFFINES["oblique, flipped, anisotropic"])  # of 2 mm3
    mask = np.zeros(grid.shape, np.uint8)
    mask[2:5, 1:5, :] = 3
    assert grid.volume_ml(mask) == pytest.approx(60 * 0.002)
    for given in (Volume(mask, grid.affine), mask[1:]):
        with pytest.raises(ConfigError, match=r"mask: an array of shape \(9, 7, 5\) is due, got"):
            grid.volume_ml(given)


def test_the_missions_grids():
    assert [mni_grid(s).shape for s in (1.0, 2.0, 4.0)] == [
        (160, 224, 160),
        (80, 112, 80),
        (40, 56, 40),
    ]
    corners = [mni_grid(s).affine @ [-0.5, -0.5, -0.5, 1] for s in (1.0, 2.0, 4.0)]
    assert np.allclose(corners, corners[0])


# -- bad input ------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        Volume.read(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_missing_file(tmp_path: Path):
    assert "no such image" in refused(tmp_path / "none.nii.gz")


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_truncated_file(tmp_path: Path, ending: str):
    path = tmp_path / f"t.{ending}"
    data = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    Volume(data, np.eye(4)).write(path)
    path.write_bytes(path.read_bytes()[:-4000])
    assert "cannot be read as an image" in refused(path)


def test_not_an_image(tmp_path: Path):
    (tmp_path / "text.nii.gz").write_text("hello")
    assert "cannot be read as an image" in refused(tmp_path / "text.nii.gz")


def test_nan_voxels(tmp_path: Path):
    data = np.zeros((3, 3, 3), np.float32)
    data[1, 1, 1], data[0, 0, 0] = np.nan, np.inf
    Volume(data, np.eye(4)).write(tmp_path / "n.nii.gz")
    assert "2 voxels are NaN or infinite" in refused(tmp_path / "n.nii.gz")


def test_four_dimensions(tmp_path: Path):
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5, 2), np.float32), np.eye(4)), tmp_path / "4d.nii.gz")
    assert "is 4-D with shape 3x4x5x2" in refused(tmp_path / "4d.nii.gz")
    nib.save(
        nib.Nifti1Image(np.zeros((3, 4, 5, 1), np.float32), np.eye(4)), tmp_path / "one.nii.gz"
    )
    assert Volume.read(tmp_path / "one.nii.gz").shape == (3, 4, 5)


def test_no_sform_and_no_qform(tmp_path: Path):
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), None)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, tmp_path / "nowhere.nii.gz")
    assert "no sform and no qform" in refused(tmp_path / "nowhere.nii.gz")


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def cut_off(image: nib.Nifti1Image, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nib, "save", cut_off)
    with pytest.raises(RunError, match=r"bad.nii.gz: cannot be written .*No space left"):
        Volume(np.zeros((3, 3, 3)), np.eye(4)).write(tmp_path / "bad.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_the_other_byte_order_is_resampled_too(tmp_path):
    labels = np.zeros((6, 7, 8), ">i4")
    labels[2:4, 2:5, 3:6] = 17
    volume = Volume(labels, np.diag([2.0, 2.0, 2.0, 1.0]))
    moved = volume.resample(volume.grid.at(1.0), nearest=True)
    assert set(np.unique(moved.data)) == {0, 17}
