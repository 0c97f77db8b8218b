"""Registrations in physical space: what is written does in every tool what it did inside."""

import io
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.conftest import TINY, assert_valid_bids, data_words, verb
from tests.transforms.scenes import oblique, points_of
from vol3d.bundle import Bundle
from vol3d.cli import fill, load_verb
from vol3d.data.synthetic.person import Anatomy
from vol3d.data.synthetic.subject import make_subject
from vol3d.data.tables import read_rows
from vol3d.errors import ConfigError, DataError
from vol3d.io.reading import read_json
from vol3d.transforms.field_file import read_field
from vol3d.transforms.resample import move_image, move_labels
from vol3d.transforms.transform import affine, chain, matrix_of, move_points
from vol3d.transforms.transform_file import read_transform
from vol3d.volume import Grid, Volume

FAST = ["optimise=2", "spacing=8", "device=cpu", "pictures=false"]
STEM = "sub-a_from-T1w_to-b_mode-image"


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people with label maps: anisotropic, oblique, flipped, each in a world of its own."""
    folder = tmp_path_factory.mktemp("heads")
    grids = {
        "a": oblique((60, 44, 66), (3.5, 5.0, 3.0), (12, -8, 17), "PIR"),
        "b": oblique((52, 60, 42), (3.6, 3.6, 4.5), (-9, 14, -6), "LAS"),
    }
    for i, (name, grid) in enumerate(grids.items()):
        person = make_subject(0, i, 4.0, Anatomy())
        turn = sitk.Euler3DTransform()  # the head lies elsewhere, and is turned
        turn.SetRotation(0.1 * i, -0.05, 0.08)
        turn.SetTranslation((5.0, 10.0 * i, 12.0))
        move_image(person.image, turn, grid).write(folder / f"sub-{name}_T1w.nii.gz")
        move_labels(person.labels, turn, grid).write(folder / f"sub-{name}_dseg.nii.gz")
    return folder


@pytest.fixture(scope="module")
def registered(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is written of the two."""
    out = tmp_path_factory.mktemp("registered") / "out"
    words = [f"labels={heads}/sub-a_dseg.nii.gz", f"fixed_labels={heads}/sub-b_dseg.nii.gz"]
    verb("register", f"{heads}/sub-a_T1w.nii.gz", f"{heads}/sub-b_T1w.nii.gz", str(out), *words,
         *FAST, "optimise=25", "pictures=true")  # fmt: skip
    return out


def foresee(*words: str) -> None:
    """A dry run."""
    fill("register", load_verb("register"), list(words)).foresee()


def of(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"sub-*/anat/{name}")
    return found


def test_simpleitk_alone_does_the_same_with_what_is_written(registered: Path, heads: Path):
    """It reads the transform and both images by itself."""
    moving = sitk.ReadImage(heads / "sub-a_T1w.nii.gz", sitk.sitkFloat32)
    fixed = sitk.ReadImage(heads / "sub-b_T1w.nii.gz")
    ours = sitk.GetArrayFromImage(sitk.ReadImage(of(registered, "*registered_T1w.nii.gz")))
    for T in (sitk.ReadTransform(of(registered, f"{STEM}_xfm.h5")), apart(registered)):
        theirs = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, T, sitk.sitkLinear, 0.0))
        assert np.ptp(theirs) > 200
        assert np.abs(theirs - ours).max() < 1e-3 * np.ptp(theirs)
    image, reference = Volume.read(of(registered, "*registered_T1w.nii.gz")), fixed
    assert np.allclose(image.affine, Volume.read(heads / "sub-b_T1w.nii.gz").affine, atol=1e-4)
    assert image.shape == reference.GetSize()


def apart(folder: Path) -> sitk.Transform:
    """The deformation and the affine map from their own files, put together by SimpleITK alone."""
    field = sitk.ReadImage(
        of(folder, f"{STEM}_desc-deformation_xfm.nii.gz"), sitk.sitkVectorFloat64
    )
    linear = sitk.ReadTransform(of(folder, f"{STEM}_desc-affine_xfm.mat"))
    return sitk.CompositeTransform([linear, sitk.DisplacementFieldTransform(field)])


def test_vol3d_transform_does_the_same(registered: Path, heads: Path, tmp_path: Path):
    verb("transform", str(of(registered, f"{STEM}_xfm.h5")), f"{heads}/sub-a_T1w.nii.gz",
         str(tmp_path / "x.nii.gz"), f"reference={heads}/sub-b_T1w.nii.gz")  # fmt: skip
    x, y = (Volume.read(p).data for p in (tmp_path / "x.nii.gz", of(registered, "*red_T1w.nii.gz")))
    np.testing.assert_allclose(x, y, atol=1e-3)


def test_ants_does_the_same(registered: Path, heads: Path):
    ants = pytest.importorskip("ants")
    fixed, moving = (ants.image_read(f"{heads}/sub-{n}_T1w.nii.gz") for n in "ba")
    ours = Volume.read(of(registered, "*registered_T1w.nii.gz")).data
    files = [f"{STEM}_desc-deformation_xfm.nii.gz", f"{STEM}_desc-affine_xfm.mat"]
    for names in ([f"{STEM}_xfm.h5"], files):
        lists = [str(of(registered, name)) for name in names]
        theirs = ants.apply_transforms(fixed, moving, lists).numpy()
        off = np.abs(theirs - ours)
        assert (off < 1e-3 * np.ptp(ours)).mean() > 0.999, off.max()


def test_greedy_does_the_same(registered: Path, heads: Path, tmp_path: Path):
    greedy = pytest.importorskip("picsl_greedy")
    field, linear = (
        of(registered, f"{STEM}_desc-{n}") for n in ("deformation_xfm.nii.gz", "affine_xfm.mat")
    )
    matrix = matrix_of(read_transform(linear))
    np.savetxt(tmp_path / "affine.mat", matrix)  # greedy's matrices are RAS+
    out = tmp_path / "moved.nii.gz"
    greedy.Greedy3D().execute(
        f"-rf {heads}/sub-b_T1w.nii.gz -rm {heads}/sub-a_T1w.nii.gz {out} "
        f"-r {field} {tmp_path}/affine.mat -V 0",
        out=io.StringIO(),
    )
    ours = Volume.read(of(registered, "*registered_T1w.nii.gz")).data
    off = np.abs(Volume.read(out).data - ours)
    assert (off < 2e-3 * np.ptp(ours)).mean() > 0.99, off.max()


def test_nitransforms_does_the_same(registered: Path):
    """Where voxels of the field go; between them it takes cubic splines."""
    nitransforms = pytest.importorskip("nitransforms")
    path = of(registered, f"{STEM}_desc-deformation_xfm.nii.gz")
    theirs = nitransforms.nonlinear.DenseFieldTransform.from_filename(path, fmt="itk")
    _, grid = read_field(path)
    inner = (slice(2, -2),) * 3
    points = points_of(grid)[:, *inner].reshape(3, -1).T[::11]
    ours = move_points(read_transform(path), points)
    assert np.abs(ours - points).max() > 1
    np.testing.assert_allclose(theirs.map(points), ours, atol=0.01)


def test_the_way_back_leads_back(registered: Path):
    told = read_json(of(registered, "*registered_T1w.json"))
    assert told["RoundTrip"]["mean_voxels"] < 0.3
    there, back = (
        read_transform(of(registered, n)) for n in (f"{STEM}_xfm.h5", "*from-b_to-T1w*image_xfm.h5")
    )
    point = (10.0, -15.0, 20.0)
    assert np.linalg.norm(np.subtract(back.TransformPoint(there.TransformPoint(point)), point)) < 4


def test_what_is_told_is_what_is_there(registered: Path, heads: Path):
    told = read_json(of(registered, "*registered_T1w.json"))
    alike = [told["Similarity"][when]["local_ncc"] for when in ("before", "affine", "after")]
    assert alike == sorted(alike)
    assert told["Dice"]["after"] > told["Dice"]["affine"]
    labels = [
        Volume.read(p)
        for p in (of(registered, "*registered_dseg.nii.gz"), heads / "sub-b_dseg.nii.gz")
    ]
    both = [(v.data == 3).sum() for v in labels]
    shared = ((labels[0].data == 3) & (labels[1].data == 3)).sum()
    assert told["DiceOfLabels"]["3"] == pytest.approx(2 * shared / sum(both), abs=1e-4)
    det, log_det = (
        Volume.read(of(registered, f"*_{n}.nii.gz")).data for n in ("jacobian", "logjacobian")
    )
    np.testing.assert_allclose(log_det, np.log(det), atol=1e-5)
    inside = labels[1].data > 0
    assert det[inside].mean() == pytest.approx(told["AffineDeterminant"], rel=0.1)
    (row,) = read_rows(registered / "registrations.tsv")
    assert (row["moving"], row["fixed"]) == ("sub-a", "b")
    assert float(row["dice_after"]) == told["Dice"]["after"]
    assert list(registered.glob("sourcedata/pictures/*.png"))


def test_bids_has_nothing_against_it(registered: Path, tmp_path: Path):
    import shutil

    copy = shutil.copytree(registered, tmp_path / "copy")
    for name in (copy / ".bidsignore").read_text().split():
        for path in copy.rglob(name):
            path.unlink()
    (copy / ".bidsignore").unlink()
    assert_valid_bids(copy)


def test_the_path_begins_with_the_moving_image_and_ends_registered(
    registered: Path, heads: Path, tmp_path: Path
):
    out = tmp_path / "path.nii.gz"
    verb("transform", str(of(registered, f"{STEM}_xfm.h5")), f"{heads}/sub-a_T1w.nii.gz", str(out),
         f"reference={heads}/sub-b_T1w.nii.gz", "path=3")  # fmt: skip
    import nibabel as nib

    frames = nib.load(out).get_fdata()
    fixed = Volume.read(heads / "sub-b_T1w.nii.gz")
    unmoved = move_image(Volume.read(heads / "sub-a_T1w.nii.gz"), sitk.Transform(), fixed.grid).data
    np.testing.assert_allclose(frames[..., 0], unmoved, atol=1e-3)
    registered_image = Volume.read(of(registered, "*registered_T1w.nii.gz")).data
    np.testing.assert_allclose(frames[..., 2], registered_image, atol=1e-3)
    assert np.abs(frames[..., 1] - frames[..., 0]).max() > 10
    back = [str(of(registered, "*from-b_to-T1w*image_xfm.h5")), f"{heads}/sub-b_T1w.nii.gz"]
    onto = f"reference={heads}/sub-a_T1w.nii.gz"
    verb("transform", *back, f"{tmp_path}/back.nii.gz", onto, "path=2")
    verb("transform", *back, f"{tmp_path}/end.nii.gz", onto)
    end = Volume.read(tmp_path / "end.nii.gz").data
    np.testing.assert_allclose(
        nib.load(tmp_path / "back.nii.gz").get_fdata()[..., 1], end, atol=1e-3
    )
    velocities = of(registered, f"{STEM}_xfm.safetensors")
    other = tmp_path / "xfm.h5"
    other.write_bytes(of(registered, "*from-b_to-T1w*image_xfm.h5").read_bytes())
    words = [
        f"{heads}/sub-a_T1w.nii.gz",
        str(tmp_path / "p.nii.gz"),
        f"reference={heads}/sub-b_T1w.nii.gz",
    ]
    with pytest.raises(DataError, match="no such velocities"):
        verb("transform", str(other), *words, "path=3")
    (tmp_path / "xfm.safetensors").write_bytes(velocities.read_bytes())
    with pytest.raises(DataError, match="of another transform"):
        verb("transform", str(other), *words, "path=3")
    words[0] = str(shifted(heads, tmp_path / "far_T1w.nii.gz", 1000.0))
    with pytest.raises(DataError, match="nothing of it comes to lie on the grid"):
        verb("transform", str(of(registered, f"{STEM}_xfm.h5")), *words, "path=2")


def test_a_cohort_to_the_template_by_shards(cohort: Path, tmp_path: Path):
    """Two shards together are all; a second run does nothing again; other settings are refused."""
    out = tmp_path / "out"
    words = [str(cohort), "template4mm", str(out), *FAST, "affine=false", "velocities=false",
             "data.entities.desc=brain", "data.labels_entities.desc=tissue",
             "data.subjects=['0001','0002','0003']"]  # fmt: skip
    verb("register", *words, "shard=1/2")
    assert len(read_rows(out / "registrations.tsv")) == 2
    verb("register", *words, "shard=2/2")
    rows = read_rows(out / "registrations.tsv")
    assert [row["moving"] for row in rows] == ["sub-0001", "sub-0002", "sub-0003"]
    assert {row["fixed"] for row in rows} == {"MNI152NLin2009aSym"}
    first = of(out, "sub-0001_space-*registered_T1w.json")
    before = first.stat().st_mtime_ns
    verb("register", *words)
    assert first.stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="begun with other optimise"):
        verb("register", *words, "optimise=3")


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_later_run_adds_what_was_left_out(heads: Path, tmp_path: Path, caplog):
    """Onto the template, by its name in a table; a dry run sees what a run would."""
    table, out = tmp_path / "pairs.tsv", tmp_path / "out"
    words = [f"pairs={table}", f"out={out}", *FAST, "affine=false"]
    row = f"moving\tfixed\n{heads}/sub-a_T1w.nii.gz\t"
    table.write_text(f"{row}templat4mm\n")
    with pytest.raises(ConfigError, match="Did you mean 'template4mm'"):
        verb("register", *words)
    table.write_text(f"{row}template4mm\n")
    verb("register", *words, "velocities=false")
    assert not [*out.rglob("*.safetensors")]
    caplog.set_level("INFO")
    foresee(*words)
    told = "would register 1 pairs, 1 of them anew, for velocities or pictures; 0 are there"
    assert told in caplog.text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vol3d.trained.registration_folder.write_flow", interrupted)
        with pytest.raises(KeyboardInterrupt):
            verb("register", *words)
    assert not [*out.rglob("*registered_T1w.json")]  # half of its files are replaced
    verb("register", *words)
    velocities = of(out, "*.safetensors")
    before = velocities.stat().st_mtime_ns
    verb("register", *words)
    assert velocities.stat().st_mtime_ns == before
    table.write_text("moving\tfixed\nsub-a_T1w.nii.gz\ttemplate4mm\n")
    (tmp_path / "sub-a_T1w.nii.gz").write_bytes((heads / "sub-b_T1w.nii.gz").read_bytes())
    with pytest.raises(ConfigError, match="of other images"):
        foresee(*words)


@pytest.fixture(scope="module")
def registrar(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has seen four images."""
    words = ["task.kind=register", "task.model={kind: symmetric, channels: [8, 8]}", "batch=2"]
    run = tmp_path_factory.mktemp("registrar") / "run"
    return verb("train", f"run={run}", *data_words(cohort), *words, *TINY, "total_nimg=4")


def test_a_trained_registrar_and_what_it_has_not_learnt(
    registrar: Path, cohort: Path, tmp_path: Path
):
    """Its answer moves one brain to the other; other contrasts and voxels are refused before that."""
    a, b = (next(cohort.glob(f"sub-000{n}/anat/*T1w.nii.gz")) for n in (1, 2))
    words = [f"registrar={registrar}", "optimise=0", "device=cpu", "pictures=false"]
    verb("register", str(a), str(b), f"{tmp_path}/out", *words)
    told = read_json(of(tmp_path / "out", "*registered_T1w.json"))
    assert told["Registrar"] == Bundle(registrar).checksum
    assert told["Grid"] == str(Volume.read(b).grid)
    other = tmp_path / "sub-x_T2w.nii.gz"
    other.write_bytes(a.read_bytes())
    with pytest.raises(DataError, match=r"is a T2w, the registrar .* learnt from T1w"):
        verb("register", str(other), str(b), f"{tmp_path}/no", *words)
    with pytest.raises(DataError, match=r"learnt from voxels of \(4"):
        verb("register", str(a), str(b), f"{tmp_path}/no", *words, "spacing=2")
    assert not (tmp_path / "no").exists()


def test_a_table_of_pairs(heads: Path, tmp_path: Path):
    rows = [("moving", "fixed", "moving_labels"), ("sub-a_T1w.nii.gz", "sub-b_T1w.nii.gz", "n/a"),
            ("sub-b_T1w.nii.gz", "sub-a_T1w.nii.gz", "sub-b_dseg.nii.gz")]  # fmt: skip
    table = heads / "pairs.tsv"
    table.write_text("".join("\t".join(row) + "\n" for row in rows))
    bad = Volume.read(heads / "sub-a_T1w.nii.gz")
    spoilt = bad.data.astype(np.float32)
    spoilt[5, 5, 5] = np.nan
    Volume(spoilt, bad.affine).write(tmp_path / "sub-c_T1w.nii.gz")
    with table.open("a") as file:  # one spoilt scan does not stop the others
        file.write(f"{tmp_path}/sub-c_T1w.nii.gz\tsub-a_T1w.nii.gz\tn/a\n")
    with pytest.raises(DataError, match=r"1 of 3 pairs could not be registered: .*sub-c"):
        verb("register", f"pairs={table}", f"out={tmp_path}/out", *FAST)
    names = [p.name for p in sorted(tmp_path.rglob("*registered_dseg.nii.gz"))]
    assert names == ["sub-b_space-a_desc-registered_dseg.nii.gz"]
    assert len(read_rows(tmp_path / "out" / "registrations.tsv")) == 2
    table.write_text("moved\tfixed\na\tb\n")
    with pytest.raises(DataError, match="has no column 'moving'"):
        verb("register", f"pairs={table}", f"out={tmp_path}/other", *FAST)


def test_a_file_named_by_its_contrast_is_the_folders(heads: Path, tmp_path: Path):
    """a/T1w.nii.gz onto b/T1w.nii.gz: the way there and the way back are two files."""
    images = [tmp_path / name / "T1w.nii.gz" for name in ("a", "b", "T1w")]
    for image, name in zip(images, "abb", strict=True):
        image.parent.mkdir()
        image.write_bytes((heads / f"sub-{name}_T1w.nii.gz").read_bytes())
    out = tmp_path / "out"
    verb("register", str(images[0]), str(images[1]), str(out), *FAST, "affine=false")
    there, back = (
        of(out, f"sub-a_from-{ends}_mode-image_xfm.h5") for ends in ("T1w_to-b", "b_to-T1w")
    )
    assert there.read_bytes() != back.read_bytes()
    with pytest.raises(DataError, match="there and the way back would have one name"):
        foresee(str(images[0]), str(images[2]), str(tmp_path / "o2"), *FAST)


def test_an_affine_map_from_a_file(heads: Path, registered: Path, tmp_path: Path):
    words = [f"{heads}/sub-a_T1w.nii.gz", f"{heads}/sub-b_T1w.nii.gz", *FAST]
    mat = of(registered, f"{STEM}_desc-affine_xfm.mat")
    verb("register", *words, f"affine={mat}", f"out={tmp_path}/out")
    told = read_json(of(tmp_path / "out", "*registered_T1w.json"))
    np.testing.assert_allclose(told["AffineMatrix"], matrix_of(read_transform(mat)), atol=1e-4)
    mirror = sitk.AffineTransform(np.diag([-1.0, 1, 1]).ravel(), (0, 0, 0))
    sitk.WriteTransform(mirror, str(tmp_path / "mirror.mat"))
    with pytest.raises(ConfigError, match="exchanges left and right"):
        verb("register", *words, f"affine={tmp_path}/mirror.mat", f"out={tmp_path}/o3")
    with pytest.raises(DataError, match="no such transform"):
        foresee(*words, f"affine={tmp_path}/no.mat", f"out={tmp_path}/o4")
    with pytest.raises(ConfigError, match="is no affine map"):
        verb("register", *words, f"affine={of(registered, f'{STEM}_xfm.h5')}", f"out={tmp_path}/o2")


def shifted(heads: Path, path: Path, mm: float) -> Path:
    image = Volume.read(heads / "sub-a_T1w.nii.gz")
    where = image.affine.copy()
    where[0, 3] += mm
    Volume(image.data, where).write(path)
    return path


def test_wrong_input_is_one_line(heads: Path, tmp_path: Path, registered: Path):
    fixed, grid = f"{heads}/sub-b_T1w.nii.gz", Volume.read(heads / "sub-a_T1w.nii.gz").grid
    bad = {
        "nan": (np.where(points_of(grid)[0] > 0, np.nan, 1.0), "NaN or infinite"),
        "empty": (np.zeros(grid.shape), "no voxel above 0"),
    }
    for name, (data, message) in bad.items():
        Volume(data.astype(np.float32), grid.affine).write(tmp_path / f"sub-{name}_T1w.nii.gz")
        with pytest.raises(DataError, match=message):
            verb(
                "register", f"{tmp_path}/sub-{name}_T1w.nii.gz", fixed, f"{tmp_path}/{name}", *FAST
            )
    four = sitk.JoinSeries([sitk.ReadImage(fixed)] * 3)
    sitk.WriteImage(four, tmp_path / "sub-four_T1w.nii.gz")
    with pytest.raises(DataError, match="3-D"):
        verb("register", f"{tmp_path}/sub-four_T1w.nii.gz", fixed, f"{tmp_path}/four", *FAST)
    air = np.random.default_rng(0).uniform(1, 2, grid.shape).astype(np.float32)  # nowhere 0
    Volume(air, grid.affine).write(tmp_path / "sub-air_T1w.nii.gz")
    with pytest.raises(DataError, match=r"sub-b_T1w.*: no affine map onto .*sub-air.*; strip both"):
        verb("register", fixed, f"{tmp_path}/sub-air_T1w.nii.gz", f"{tmp_path}/air", *FAST)
    far = shifted(heads, tmp_path / "sub-far_T1w.nii.gz", 1000.0)
    for how, message in (
        ("true", "further than a scanner is wide"),
        ("false", "mm away from the brain"),
    ):
        with pytest.raises(DataError, match=message):
            verb("register", str(far), fixed, f"{tmp_path}/far{how}", f"affine={how}", *FAST)
    labels = tmp_path / "soft_dseg.nii.gz"
    Volume(np.full(grid.shape, 0.5, np.float32), grid.affine).write(labels)
    with pytest.raises(
        DataError, match=r"soft_dseg.nii.gz: labels are whole numbers, it holds 0\.5"
    ):
        verb(
            "register",
            f"{heads}/sub-a_T1w.nii.gz",
            fixed,
            f"{tmp_path}/soft",
            f"labels={labels}",
            *FAST,
        )
    with pytest.raises(DataError, match="lies on a grid of"):
        verb("register", f"{heads}/sub-a_T1w.nii.gz", fixed, f"{tmp_path}/else",
             f"labels={heads}/sub-b_dseg.nii.gz", *FAST)  # fmt: skip
    with pytest.raises(DataError, match="mm away from a displacement field"):
        verb("transform", str(of(registered, f"{STEM}_xfm.h5")), f"{heads}/sub-a_T1w.nii.gz",
             f"{tmp_path}/x.nii.gz", f"reference={far}")  # fmt: skip
    with pytest.raises(ConfigError, match="without a registrar nothing but the search"):
        verb("register", f"{heads}/sub-a_T1w.nii.gz", fixed, f"{tmp_path}/no", "optimise=0")


def test_a_turned_pair_is_the_same_pair(heads: Path, registered: Path, tmp_path: Path):
    """In another orientation of its file, and in another world, the moving image ends where it did."""
    image = Volume.read(heads / "sub-a_T1w.nii.gz").reorient("LSA")
    turn = np.eye(4)
    turn[:3, 3] = 30, -20, 10
    Volume(image.data, turn @ image.affine).write(tmp_path / "sub-a_T1w.nii.gz")
    words = [f"{tmp_path}/sub-a_T1w.nii.gz", f"{heads}/sub-b_T1w.nii.gz", str(tmp_path / "out")]
    verb("register", *words, *FAST, "optimise=25")
    one, other = (
        Volume.read(of(f, "*registered_T1w.nii.gz")).data for f in (registered, tmp_path / "out")
    )
    assert np.abs(one - other).mean() < 0.01 * np.ptp(one)


def test_grids_are_covered(heads: Path):
    """The common grid reaches over all of the fixed image, whatever its size."""
    from vol3d.trained.registrar import Registrar
    from vol3d.trained.registration import common_grid
    from vol3d.transforms.overlap import lattice, overlap

    fixed = Grid((31, 17, 23), Volume.read(heads / "sub-b_T1w.nii.gz").affine)
    grid = common_grid(fixed, Registrar(), 5.0)
    assert grid.spacing == pytest.approx((5, 5, 5))
    assert overlap(lattice(fixed), grid).share == 1
    assert common_grid(grid, Registrar(), 5.0).matches(grid)
    for given, line in (
        (99.0, "of 99 mm are"),
        (None, r"of 99 mm \(the registrar's own; spacing= "),
    ):
        registrar = Registrar()
        registrar.grids = [Grid((8, 8, 8), np.diag([99.0, 99.0, 99.0, 1.0]))]
        with pytest.raises(ConfigError, match=line):
            common_grid(Grid((9, 9, 9), np.eye(4)), registrar, given)


def test_affine_maps_part_of_the_way():
    """Half a half-way map twice is the whole; back is back."""
    import torch

    from tests.transforms.scenes import affine_matrix
    from vol3d.transforms.deformation import Deformation
    from vol3d.transforms.velocity_file import Flow

    flow = Flow(
        Deformation([torch.zeros(1, 3, 4, 4, 4)], (4, 4, 4)),
        Grid((4, 4, 4), np.eye(4)),
        affine_matrix(),
    )
    half = flow.power(0.5)
    np.testing.assert_allclose(half @ half, affine_matrix(), atol=1e-10)
    np.testing.assert_allclose(
        matrix_of(chain([affine(half), affine(flow.power(-0.5))])), np.eye(4), atol=1e-9
    )
