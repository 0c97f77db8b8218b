"""Transforms as files: there and back, as ITK reads them, and what is refused."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from tests.transforms.scenes import FIXED, WIDE, affine_matrix, waves
from vol3d.data.displacement import write_displacement
from vol3d.errors import ConfigError, DataError
from vol3d.grid import grid_of
from vol3d.transforms.field_file import read_field, vector_image, write_field
from vol3d.transforms.transform import affine, chain, field, matrix_of, move_points
from vol3d.transforms.transform_file import read_chain, read_transform, write_transform
from vol3d.volume import mni_grid

POINTS = np.random.default_rng(0).uniform(-25, 25, (50, 3))


def by_itk(path: Path) -> sitk.Transform:
    """A field as SimpleITK reads it."""
    return sitk.DisplacementFieldTransform(sitk.ReadImage(path, sitk.sitkVectorFloat64))


def test_a_field_there_and_back_and_in_itk(tmp_path):
    path, u = tmp_path / "u.nii.gz", waves(WIDE)
    write_field(path, u, WIDE)
    got, grid = read_field(path)
    np.testing.assert_array_equal(got, u)
    assert grid.matches(WIDE)
    theirs = move_points(by_itk(path), POINTS)
    assert np.abs(theirs - POINTS).max() > 3
    np.testing.assert_allclose(move_points(read_transform(path), POINTS), theirs, atol=1e-4)
    assert nib.load(path).header["intent_code"] == 1007
    assert [p.name for p in tmp_path.iterdir()] == ["u.nii.gz"]


def test_a_field_that_itk_wrote(tmp_path):
    path, u = tmp_path / "u.nii.gz", waves(WIDE)
    sitk.WriteImage(field(u, WIDE).GetDisplacementField(), path)
    got, grid = read_field(path)
    np.testing.assert_allclose(got, u, atol=1e-6)
    assert grid.matches(WIDE)


@pytest.mark.parametrize("code", [1006, 1007])
def test_the_intent_says_whose_axes_vectors_follow(code: int, tmp_path):
    """ITK turns vectors of code 1006, and takes those of 1007 as they are; so do we."""
    path = tmp_path / "u.nii.gz"
    image = vector_image(waves(WIDE), WIDE)
    image.header.set_intent(code)
    nib.save(image, path)
    theirs = move_points(by_itk(path), POINTS)
    np.testing.assert_allclose(move_points(read_transform(path), POINTS), theirs, atol=1e-4)


def test_a_warp_of_the_cohort_is_known_by_its_name(tmp_path):
    grid = mni_grid(4.0)
    write_displacement(tmp_path / "u.nii.gz", waves(grid), grid)
    assert np.abs(read_field(tmp_path / "u.nii.gz")[0] - waves(grid)).max() < 1.1e-3


@pytest.mark.parametrize("ending", [".mat", ".txt", ".tfm", ".h5"])
def test_an_affine_there_and_back(ending: str, tmp_path):
    path = tmp_path / f"a{ending}"
    write_transform(path, affine(affine_matrix()))
    np.testing.assert_allclose(matrix_of(read_transform(path)), affine_matrix(), atol=1e-9)
    np.testing.assert_allclose(matrix_of(sitk.ReadTransform(path)), affine_matrix(), atol=1e-9)


def test_a_chain_there_and_back(tmp_path):
    both = chain([field(waves(WIDE), WIDE), affine(affine_matrix())])
    write_transform(tmp_path / "both.h5", both)
    expected = move_points(both, POINTS)
    for read in (read_transform, sitk.ReadTransform):
        np.testing.assert_allclose(move_points(read(tmp_path / "both.h5"), POINTS), expected)
    write_transform(tmp_path / "u.nii.gz", field(waves(WIDE), WIDE))
    write_transform(tmp_path / "a.mat", affine(affine_matrix()))
    paths = [tmp_path / "u.nii.gz", tmp_path / "a.mat"]
    np.testing.assert_allclose(
        move_points(read_chain(paths, [False, False]), POINTS), expected, atol=1e-5
    )
    back = read_chain(paths[::-1], [True, True])
    assert np.abs(move_points(back, expected) - POINTS).max() < 0.4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("u.txt", "holds what is linear alone; fields and chains go to a file .h5"),
        ("two.mat", "holds one transform; a chain goes to a file .h5"),
        ("u.nii.gz", "holds one displacement field; a chain goes to a file .h5"),
        ("u.xfm", "the name of a transform ends in .h5, .mat, .txt, .tfm or .nii.gz"),
    ],
)
def test_what_does_not_go_into_a_file(name: str, message: str, tmp_path):
    transform = field(waves(FIXED), FIXED)
    if name == "u.nii.gz":
        transform = chain([transform, transform])
    if name == "two.mat":
        transform = chain([affine(affine_matrix())] * 2)
    with pytest.raises(ConfigError, match=message):
        write_transform(tmp_path / name, transform)
    assert not list(tmp_path.iterdir())


def broken(path: Path, how: str) -> Path:
    """A file of a field with something wrong."""
    u = waves(FIXED)
    if how == "nan":
        u[1, 2, 3, 4] = np.nan
    image = vector_image(u, FIXED)
    if how == "two dimensions":
        image = nib.Nifti1Image(np.asarray(image.dataobj)[..., :2], FIXED.affine)
        image.header.set_intent("vector")
    if how == "no intent":
        image.header.set_intent("none")
    if how == "fnirt":
        image = nib.Nifti1Image(np.asarray(image.dataobj)[:, :, :, 0], FIXED.affine)
        image.header.set_intent(2006)
    if how == "nowhere":
        image = nib.Nifti1Image(np.asarray(image.dataobj), None)
        image.header.set_intent("vector")
    nib.save(image, path)
    if how == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    if how == "text":
        path.write_text("a field")
    return path


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", "1 of its vectors are NaN or infinite"),
        ("two dimensions", r"is no displacement field of ITK or ANTs: shape \(24, 30, 20, 1, 2\)"),
        ("no intent", "is no displacement field of ITK or ANTs: .*, intent code 0"),
        ("fnirt", r"shape \(24, 30, 20, 3\), intent code 2006"),
        ("nowhere", "has no sform and no qform"),
        ("cut", "its header claims|cannot be read as an image"),
        ("text", "cannot be read as an image"),
    ],
)
def test_what_is_no_field(how: str, message: str, tmp_path):
    with pytest.raises(DataError, match=message):
        read_transform(broken(tmp_path / "u.nii", how))


def test_what_is_no_transform(tmp_path):
    with pytest.raises(DataError, match=r"none\.h5: no such transform"):
        read_transform(tmp_path / "none.h5")
    with pytest.raises(DataError, match=r"none\.nii\.gz: no such transform"):
        read_transform(tmp_path / "none.nii.gz")
    (tmp_path / "fsl.mat").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    with pytest.raises(DataError, match="cannot be read as an ITK transform; convert"):
        read_transform(tmp_path / "fsl.mat")
    sitk.WriteTransform(sitk.AffineTransform(2), tmp_path / "flat.mat")
    with pytest.raises(DataError, match="is a transform of 2 dimensions, three are due"):
        read_transform(tmp_path / "flat.mat")
    u = waves(FIXED)
    u[0, 0, 0, 0] = np.inf
    sitk.WriteTransform(chain([field(u, FIXED)]), tmp_path / "inf.h5")
    with pytest.raises(DataError, match="has numbers in it that are NaN or infinite"):
        read_transform(tmp_path / "inf.h5")


def test_a_list_of_transforms_is_refused(tmp_path):
    """ITK takes the first one of such a file, and says so in passing."""
    path = tmp_path / "hmc.tfm"
    write_transform(path, affine(affine_matrix()))
    text = path.read_text()
    one = text[text.index("#Transform 0") :]
    path.write_text(text + one.replace("#Transform 0", "#Transform 1"))
    with pytest.raises(DataError, match="holds a list of 2 transforms, such as one per frame"):
        read_transform(path)
    write_transform(tmp_path / "both.tfm", chain([affine(affine_matrix())] * 2))
    expected = affine_matrix() @ affine_matrix()
    np.testing.assert_allclose(matrix_of(read_transform(tmp_path / "both.tfm")), expected)


def test_files_of_ants(tmp_path):
    """What ANTs registers, we read as ANTs applies it."""
    ants = pytest.importorskip("ants")
    pd = pytest.importorskip("pandas")
    from tests.transforms.scenes import blobs

    blobs(FIXED, 1).write(tmp_path / "fixed.nii.gz")
    blobs(FIXED, 2).write(tmp_path / "moving.nii.gz")
    fixed, moving = (ants.image_read(str(tmp_path / f"{n}.nii.gz")) for n in ("fixed", "moving"))
    for composite in (False, True):
        found = ants.registration(
            fixed, moving, "SyN", reg_iterations=(8, 4), outprefix=str(tmp_path / f"{composite}_"),
            write_composite_transform=composite,
        )  # fmt: skip
        files = found["fwdtransforms"]
        paths = [Path(p) for p in ([files] if isinstance(files, str) else files)]
        assert [p.suffix for p in paths] == ([".h5"] if composite else [".gz", ".mat"])
        table = pd.DataFrame(POINTS / 2 * [-1, -1, 1], columns=["x", "y", "z"])
        theirs = ants.apply_transforms_to_points(3, table, list(map(str, paths)))
        theirs = theirs[["x", "y", "z"]].to_numpy() * [-1, -1, 1]
        ours = move_points(read_chain(paths, [False] * len(paths)), POINTS / 2)
        assert np.abs(ours - POINTS / 2).max() > 0.5
        np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_files_that_come_with_nitransforms():
    """Its tests hold the same affine map as ANTs' composite and as ITK's text."""
    nitransforms = pytest.importorskip("nitransforms")
    folder = Path(nitransforms.__file__).parent / "tests" / "data"
    for name in ("RAS", "LAS", "LPS", "oblique"):
        path = folder / f"affine-{name}.itk.tfm"
        theirs = nitransforms.linear.Affine.from_filename(path, fmt="itk").matrix
        np.testing.assert_allclose(matrix_of(read_transform(path)), theirs, atol=1e-6)
    with pytest.raises(DataError, match=r"holds a list of \d+ transforms"):
        read_transform(folder / "itktflist.tfm")
    assert np.isfinite(matrix_of(read_transform(folder / "affine-antsComposite.h5"))).all()


def test_grids_survive_itk():
    assert grid_of(field(waves(WIDE), WIDE).GetDisplacementField()).matches(WIDE)
