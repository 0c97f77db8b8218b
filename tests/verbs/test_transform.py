"""`vol3d transform`: images, label maps and points through files, and one line for what is wrong."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from tests.conftest import verb, vol3d
from tests.transforms.scenes import FIXED, MOVING, WIDE, affine_matrix, blobs, slope, waves
from vol3d.data.points import read_points
from vol3d.errors import ConfigError, DataError
from vol3d.transforms.transform import affine, chain, field, move_points
from vol3d.transforms.transform_file import write_transform
from vol3d.volume import Volume

PAIR = "from-moving_to-fixed_mode-image_xfm"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two volumes, and the files of a field and an affine map, apart and together."""
    folder = tmp_path_factory.mktemp("pair")
    Volume(blobs(FIXED).data, FIXED.affine, 4).write(folder / "fixed_T1w.nii.gz")
    slope(MOVING).write(folder / "moving_T1w.nii.gz")
    Volume((blobs(MOVING).data * 5).astype(np.uint8), MOVING.affine).write(
        folder / "moving_dseg.nii.gz"
    )
    write_transform(folder / "warp.nii.gz", field(waves(WIDE), WIDE))
    write_transform(folder / "affine.mat", affine(affine_matrix()))
    write_transform(folder / f"{PAIR}.h5", both())
    return folder


def both() -> sitk.Transform:
    return chain([field(waves(WIDE), WIDE), affine(affine_matrix())])


def run(folder: Path, image: str, out: Path, *words: str, transform: str = f"{PAIR}.h5") -> Path:
    """The verb, by the names of files in the folder."""
    reference = f"reference={folder / 'fixed_T1w.nii.gz'}"
    given = [w for w in words if w.startswith("reference=")] or [reference]
    rest = [w for w in words if not w.startswith("reference=")]
    path = transform if transform.startswith("[") else str(folder / transform)
    return verb("transform", path, str(folder / image), str(out), *given, *rest)


def listed(folder: Path, *names: str) -> str:
    return f"[{','.join(str(folder / n) for n in names)}]"


def test_an_image_moves_onto_the_reference(folder: Path, tmp_path: Path):
    """SimpleITK, with files that it reads itself, says the same."""
    out = run(folder, "moving_T1w.nii.gz", tmp_path / "new" / "out.nii.gz")
    moved = Volume.read(out)
    assert moved.grid.matches(FIXED)
    assert moved.space_code == 4
    expected = sitk.Resample(
        sitk.ReadImage(folder / "moving_T1w.nii.gz"),
        sitk.ReadImage(folder / "fixed_T1w.nii.gz"),
        sitk.ReadTransform(folder / f"{PAIR}.h5"),
        sitk.sitkLinear,
        0.0,
    )
    expected = sitk.GetArrayFromImage(expected).transpose(2, 1, 0)
    assert np.abs(moved.data - expected).max() < 1e-3 * np.ptp(expected)


def test_a_list_is_a_chain_however_it_is_said(folder: Path, tmp_path: Path):
    alone = Volume.read(run(folder, "moving_T1w.nii.gz", tmp_path / "1.nii.gz")).data
    files = listed(folder, "warp.nii.gz", "affine.mat")
    two = run(folder, "moving_T1w.nii.gz", tmp_path / "2.nii.gz", transform=files)
    np.testing.assert_allclose(Volume.read(two).data, alone, atol=1e-3)
    named = verb(
        *("transform", str(folder / "moving_T1w.nii.gz"), str(tmp_path / "3.nii.gz")),
        *(f"transform={files}", f"reference={folder / 'fixed_T1w.nii.gz'}"),
    )
    np.testing.assert_array_equal(Volume.read(named).data, Volume.read(two).data)
    turned = run(
        folder,
        "moving_T1w.nii.gz",
        tmp_path / "4.nii.gz",
        transform=listed(folder, "affine.mat", "warp.nii.gz"),
    )
    assert np.abs(Volume.read(turned).data - alone).max() > 1


def test_labels_are_known_by_name_or_said(folder: Path, tmp_path: Path):
    moved = Volume.read(run(folder, "moving_dseg.nii.gz", tmp_path / "dseg.nii.gz"))
    assert moved.data.dtype == np.uint8
    assert set(np.unique(moved.data)) == {0, 1, 2, 3, 4, 5}
    mixed = Volume.read(
        run(folder, "moving_dseg.nii.gz", tmp_path / "mixed.nii.gz", "labels=false")
    )
    assert mixed.data.dtype == np.float32
    assert (mixed.data % 1 > 0.01).any()
    nearest = Volume.read(
        run(folder, "moving_dseg.nii.gz", tmp_path / "n.nii.gz", "interpolation=nearest")
    )
    assert 0.9 < (nearest.data == moved.data).mean() < 1
    with pytest.raises(ConfigError, match="interpolation=cubic: is not for labels"):
        run(folder, "moving_dseg.nii.gz", tmp_path / "c.nii.gz", "interpolation=cubic")
    with pytest.raises(DataError, match=r"_T1w\.nii\.gz: labels are whole numbers, it holds"):
        run(folder, "moving_T1w.nii.gz", tmp_path / "l.nii.gz", "labels=true")


def test_the_way_back(folder: Path, tmp_path: Path):
    """An image goes there and comes back; a list of inverses is what ANTs would be told."""
    there = run(folder, "moving_T1w.nii.gz", tmp_path / "there.nii.gz")
    to_moving = f"reference={folder / 'moving_T1w.nii.gz'}"
    files = listed(folder, "warp.nii.gz", "affine.mat")
    words = ["transform", files, str(there), str(tmp_path / "back.nii.gz")]
    back = Volume.read(verb(*words, to_moving, "inverse=true"))
    expected = slope(MOVING).data
    assert back.grid.matches(MOVING)
    middle = tuple(slice(n // 3, -n // 3) for n in MOVING.shape)
    assert (
        np.abs(back.data - expected)[middle].max() < 0.5
    )  # of 60; 5 mm between the field's voxels
    words[1] = listed(folder, "affine.mat", "warp.nii.gz")
    words[3] = str(tmp_path / "again.nii.gz")
    again = Volume.read(verb(*words, to_moving, "inverse=[true,true]"))
    np.testing.assert_array_equal(again.data, back.data)
    with pytest.raises(ConfigError, match="inverse: lists 1 values for 2 transforms"):
        verb(*words[:3], str(tmp_path / "x.nii.gz"), to_moving, "inverse=[true]")


@pytest.mark.parametrize("axes", ["RAS", "LPS"])
def test_points_go_from_fixed_to_moving_and_back(folder: Path, tmp_path: Path, axes: str):
    points = np.random.default_rng(0).uniform(-15, 15, (20, 3))
    sign = np.array([-1, -1, 1] if axes == "LPS" else [1, 1, 1])
    lines = ["x,y,z,label", *(",".join(map(str, [*p, i])) for i, p in enumerate(points * sign))]
    (tmp_path / "fixed.csv").write_text("\n".join(lines) + "\n")
    xfm, coordinates = str(folder / f"{PAIR}.h5"), f"coordinates={axes}"
    there = verb(
        "transform", xfm, str(tmp_path / "fixed.csv"), str(tmp_path / "moving.tsv"), coordinates
    )
    got, rows = read_points(there)
    np.testing.assert_allclose(got * sign, move_points(both(), points), atol=1e-3)
    assert [row["label"] for row in rows] == [str(i) for i in range(20)]
    back = verb(
        "transform", xfm, str(there), str(tmp_path / "back.csv"), coordinates, "inverse=true"
    )
    assert np.abs(read_points(back)[0] * sign - points).max() < 0.4


def far(folder: Path, tmp_path: Path, image: str) -> Path:
    """The image 1 m away."""
    volume = Volume.read(folder / image)
    affine = volume.affine.copy()
    affine[0, 3] += 1000
    Volume(volume.data, affine).write(tmp_path / image)
    return tmp_path / image


def test_what_lies_elsewhere_is_told_in_one_line(folder: Path, tmp_path: Path):
    out = tmp_path / "out.nii.gz"
    image = far(folder, tmp_path, "moving_T1w.nii.gz")
    with pytest.raises(DataError, match=r"nothing of it comes to lie on .* 8\d\d mm lie between"):
        run(folder, str(image), out)
    reference = far(folder, tmp_path, "fixed_T1w.nii.gz")
    with pytest.raises(
        DataError, match=r"fixed_T1w.* lies 8\d\d mm away from a displacement field"
    ):
        run(folder, "moving_T1w.nii.gz", out, f"reference={reference}")
    (tmp_path / "far.csv").write_text("x,y,z\n1000,0,0\n")
    with pytest.raises(DataError, match=r"far\.csv: lies 9\d\d mm away from a displacement field"):
        verb("transform", str(folder / "warp.nii.gz"), str(tmp_path / "far.csv"), "o.csv")
    assert not out.exists()


def test_what_a_field_does_not_reach_is_told(folder: Path, tmp_path: Path, caplog):
    write_transform(tmp_path / "small.nii.gz", field(waves(FIXED), FIXED))
    (tmp_path / "p.csv").write_text("x,y,z\n0,0,0\n60,0,0\n")
    verb(
        "transform",
        str(tmp_path / "small.nii.gz"),
        str(tmp_path / "p.csv"),
        str(tmp_path / "q.csv"),
    )
    assert "50 % of it lies outside a displacement field and is not moved by it" in caplog.text
    caplog.clear()
    wide = Volume(np.zeros((60, 60, 60), np.float32), np.diag([9.0, 9.0, 9.0, 1.0]))
    wide.affine[:3, 3] = FIXED.affine[:3, :3] @ np.array(FIXED.shape) / 2 + FIXED.origin - 270.0
    wide.data[29:32, 29:32, 29:32] = 1.0  # the corners of its box are far from the field
    wide.write(tmp_path / "wide_T1w.nii.gz")
    verb(
        "transform",
        str(tmp_path / "small.nii.gz"),
        str(tmp_path / "wide_T1w.nii.gz"),
        str(tmp_path / "moved.nii.gz"),
        f"reference={tmp_path}/wide_T1w.nii.gz",
    )
    assert "outside a displacement field" not in caplog.text
    Volume(np.zeros(FIXED.shape, np.uint8), FIXED.affine).write(tmp_path / "empty_mask.nii.gz")
    for words in ([], ["labels=false"]):
        out = run(
            folder, str(tmp_path / "empty_mask.nii.gz"), tmp_path / f"{len(words)}.nii.gz", *words
        )
        assert not Volume.read(out).data.any()


def test_what_is_wrong_is_one_line(folder: Path, tmp_path: Path):
    """With files that people have: a series, a slice, NaN, no reference, a name that is taken."""
    data = np.zeros((4, 5, 6, 3), np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "series.nii.gz")
    nib.save(nib.Nifti1Image(data[:, :, 0, 0], np.eye(4)), tmp_path / "slice.nii.gz")
    data[0] = np.nan
    nib.save(nib.Nifti1Image(data[..., 0], np.eye(4)), tmp_path / "nan.nii.gz")
    for image, message in (
        ("series.nii.gz", "is 4-D with shape 4x5x6x3"),
        ("slice.nii.gz", "is 2-D with shape 4x5"),
        ("nan.nii.gz", "30 voxels are NaN"),
        ("none.nii.gz", "no such image"),
    ):
        with pytest.raises(DataError, match=message):
            run(folder, str(tmp_path / image), tmp_path / "out.nii.gz")
    words = [str(folder / f"{PAIR}.h5"), str(folder / "moving_T1w.nii.gz")]
    with pytest.raises(ConfigError, match="reference: an image on whose grid OUT is to lie is due"):
        verb("transform", *words, str(tmp_path / "out.nii.gz"))
    with pytest.raises(ConfigError, match="is there already"):
        verb("transform", *words, str(folder / "fixed_T1w.nii.gz"))
    with pytest.raises(ConfigError, match="the name of a NIfTI file is due"):
        verb("transform", *words, str(tmp_path / "out.mgz"))
    (tmp_path / "p.csv").write_text("x,y,z\n0,0,0\n")
    with pytest.raises(ConfigError, match=r"points go to a table, ending in \.tsv"):
        verb("transform", words[0], str(tmp_path / "p.csv"), str(tmp_path / "p.nii.gz"))
    with pytest.raises(ConfigError, match=r"p\.csv: is there already"):
        verb("transform", words[0], str(tmp_path / "p.csv"), str(tmp_path / "p.csv"))


def test_a_dry_run_refuses_what_a_run_would_and_writes_nothing(folder: Path, tmp_path: Path):
    words = ["transform", str(folder / f"{PAIR}.h5"), str(folder / "moving_T1w.nii.gz")]
    words += [str(tmp_path / "new" / "out.nii.gz"), "--dry-run"]
    done = vol3d(*words, f"reference={folder / 'fixed_T1w.nii.gz'}")
    assert done.returncode == 0, done.stderr
    assert not [*tmp_path.iterdir()]
    done = vol3d(*words, "reference=none.nii")
    assert (done.returncode, done.stderr) == (1, "vol3d: none.nii: no such image\n")


def test_the_command_line(folder: Path, tmp_path: Path):
    points = tmp_path / "p.csv"
    points.write_text("x,y,z\n0,0,0\n")
    words = ["transform", listed(folder, "warp.nii.gz", "affine.mat"), str(points)]
    result = vol3d(*words, str(tmp_path / "q.csv"))
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'q.csv'}\n"
    assert "points went from the fixed space to the moving one" in result.stderr
    assert vol3d("transform", "none.h5", str(points), str(tmp_path / "r.csv")).stderr == (
        "vol3d: none.h5: no such transform\n"
    )
