"""Preparation on a head that is made from the template, so that the truth is known."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from scipy.stats import entropy

from vol3d.data.dice import dice
from vol3d.data.preparation import qc
from vol3d.data.preparation.alignment import fit, move, nearest_rigid, template_volume
from vol3d.data.preparation.bias import BiasField
from vol3d.data.preparation.intensity import levelled
from vol3d.data.preparation.masks import Command, Own, Template
from vol3d.data.preparation.pipeline import STAGES, Steps, outside, prepare
from vol3d.data.preparation.transforms import keep_transform, read_native_grid
from vol3d.data.preparation.ventricles import ventricles_ml
from vol3d.data.synthetic.person import Anatomy
from vol3d.data.synthetic.subject import make_subject
from vol3d.data.visit import Visit
from vol3d.errors import DataError
from vol3d.transforms.transform_file import read_transform
from vol3d.volume import Grid, Volume, mni_grid


def turned() -> sitk.Euler3DTransform:
    """A head that nods by 12 degrees, turns by 6, and lies 10 to 15 mm off; template to scan."""
    truth = sitk.Euler3DTransform()
    truth.SetRotation(np.deg2rad(12), np.deg2rad(-4), np.deg2rad(6))
    truth.SetTranslation((10.0, -12.0, 15.0))
    return truth


def native_grid() -> Grid:
    """Anisotropic, flipped, and with room around the head: 230 x 260 x 270 mm, LAS."""
    affine = np.diag([-2.0, 2.5, 3.0, 1.0])
    affine[:3, 3] = [115.0, -150.0, -140.0]
    return Grid((115, 104, 90), affine)


def scanned(image: np.ndarray, *, nearest: bool = False) -> Volume:
    """An image on the template's 2 mm grid, as a scanner would see it in the turned head."""
    upright = Volume(image, mni_grid(2.0).affine)
    moved = move(upright, turned().GetInverse(), native_grid(), nearest=nearest)
    return Volume(moved.data, moved.affine, 1)


def with_skull(brain: np.ndarray) -> np.ndarray:
    """Around the brain: 4 mm fluid and bone, 8 mm scalp."""
    inside = brain > 0
    away = ndimage.distance_transform_edt(np.pad(~inside, 8))[8:-8, 8:-8, 8:-8] * 2
    return np.where(inside, brain, np.where(away < 5, 0.05, np.where(away < 12, 0.7, 0.01)))


@pytest.fixture(scope="module")
def brain() -> np.ndarray:
    return template_volume(2.0).data


@pytest.fixture(scope="module")
def stripped(brain, tmp_path_factory) -> Visit:
    path = tmp_path_factory.mktemp("raw") / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    path.parent.mkdir(parents=True)
    scan = scanned(1000 * brain)
    scan.write(path)
    return Visit("01", None, {"T1w": path}, {}, "train")


def apart_mm(a: sitk.Transform, b: sitk.Transform) -> float:
    """The furthest that two transforms take a point of the brain apart."""
    points = [(x, y, z) for x in (-60.0, 60.0) for y in (-70.0, 90.0) for z in (-30.0, 70.0)]
    pairs = [(a.TransformPoint(p), b.TransformPoint(p)) for p in points]
    return max(float(np.linalg.norm(np.subtract(p, q))) for p, q in pairs)


def test_the_pose_of_a_turned_brain_is_found(stripped):
    head = Volume.read(stripped.image).reorient("RAS")
    mask = Volume(head.data > 0, head.affine)
    found = nearest_rigid(fit(head, mask))
    assert apart_mm(found, turned()) < 1.0
    assert np.linalg.det(np.reshape(found.GetMatrix(), (3, 3))) == pytest.approx(1)


def test_nearest_rigid_takes_the_stretch_away():
    affine = sitk.AffineTransform(3)
    affine.SetMatrix((np.reshape(turned().GetMatrix(), (3, 3)) @ np.diag([0.8, 0.9, 1.1])).ravel())
    affine.SetTranslation(turned().GetTranslation())
    assert apart_mm(nearest_rigid(affine), turned()) < 1e-6


def test_a_stripped_scan_comes_out_as_the_template(stripped, brain):
    told: list[str] = []
    folder = stripped.image.parents[2]
    done = prepare(stripped, folder, Steps(grid="4mm", bias=None), told.append)
    assert told == list(STAGES[:-1])
    assert done.image.grid.matches(mni_grid(4.0))
    assert "stripped already" in done.found.method
    assert not done.found.approximate
    expected = template_volume(4.0).data
    both = (expected > 0) & done.mask.data
    assert np.corrcoef(expected[both], done.image.data[both])[0, 1] > 0.95
    assert done.measures["dice"] > 0.95
    assert done.measures["cut_percent"] < 1
    assert done.measures["filled"] == pytest.approx(1, abs=0.1)
    top = np.percentile(done.image.data[done.image.data > 0], 99.5)
    assert top == pytest.approx(1 / 1.2, abs=1e-3)
    assert done.native.matches(native_grid())


def test_a_brain_whose_darker_part_is_lost_is_too_small(brain, tmp_path):
    """As where a constant is taken off, and what falls below 0 is cut off: no more can be put back."""
    path = tmp_path / "sub-01_T1w.nii.gz"
    scanned(1000 * np.maximum(brain - 0.7, 0)).write(path)
    scan = Visit("01", None, {"T1w": path}, {}, "train")
    done = prepare(scan, tmp_path, Steps(grid="4mm", bias=None))
    assert done.offset == 0
    assert qc.flags([done.measures]) == ["filled below 0.82"]


@pytest.mark.parametrize("constant", [-400.0, 300.0])
@pytest.mark.parametrize("kind", ["head", "stripped", "centred"])
def test_intensities_begin_at_zero(brain, kind: str, constant: float):
    noise = np.abs(np.random.default_rng(0).standard_normal(brain.shape)) / 1000
    plain = with_skull(brain) + noise if kind == "head" else brain
    plain = (1000 * plain).astype(np.float32)
    same, offset = levelled(plain)
    assert offset == 0
    assert (same == plain).all()
    if kind == "centred":  # by a tool that leaves the zeros around a brain alone
        found, offset = levelled(np.where(brain > 0, plain - 500, 0).astype(np.float32))
        assert (found > 0).sum() > 0.99 * (brain > 0).sum()
        assert not found[brain == 0].any()
    else:
        found, offset = levelled(plain + constant)
        assert offset == pytest.approx(-constant, abs=15)
        assert np.abs(found - np.maximum(plain + constant + offset, 0)).max() < 0.1


def test_ventricles_are_measured_where_the_truth_is_known():
    person = make_subject(0, 5, 2, Anatomy())
    brain = Volume(person.image.data.astype(np.float32), person.image.affine)
    mask = Volume(brain.data > 0, brain.affine)
    found = ventricles_ml(brain, mask, fit(brain, mask))
    assert found == pytest.approx(person.ventricles_ml, rel=0.15)


def test_what_lies_outside_the_field_of_view_is_counted():
    grid = mni_grid(4.0)
    mask = Volume(np.ones(grid.shape, bool), grid.affine)
    shifted = sitk.TranslationTransform(3, (0.0, 56.0, 0.0))  # a quarter of its depth
    assert outside(mask, shifted, grid) == pytest.approx(0.25)
    assert outside(mask, sitk.Transform(), grid) == 0


@pytest.mark.slow
def test_the_built_in_mask_finds_the_brain_in_a_head(brain, tmp_path):
    head = scanned(1000 * with_skull(brain) - 300)  # some exports take a constant off
    head = Volume(levelled(head.data)[0], head.affine)
    truth = scanned((brain > 0).astype(np.uint8), nearest=True).reorient("RAS").data > 0
    scan = Visit("01", None, {"T1w": tmp_path / "sub-01_T1w.nii.gz"}, {}, "train")
    found = Template().find(head.reorient("RAS"), scan, tmp_path)
    assert found.approximate
    assert dice(found.mask.data > 0, truth) > 0.93


def test_a_drift_of_brightness_goes_into_the_field():
    grid, brain = mni_grid(4.0), template_volume(4.0).data
    drift = np.linspace(-0.3, 0.3, grid.shape[1], dtype=np.float32)[None, :, None]
    mask, quick = Volume(brain > 0, grid.affine), BiasField(voxel_mm=8.0, iterations=[20, 20])
    even, uneven = (
        np.log(quick.estimate(Volume(x, grid.affine), mask)) for x in (brain, brain * np.exp(drift))
    )
    found = (uneven - even)[brain > 0]
    slope, _ = np.polyfit(np.broadcast_to(drift, brain.shape)[brain > 0], found, 1)
    assert slope == pytest.approx(1, abs=0.25)


def test_a_mask_of_its_own_beside_the_scan_is_taken(stripped, tmp_path):
    head = Volume.read(stripped.image).reorient("RAS")
    folder = tmp_path / "sub-01" / "anat"
    folder.mkdir(parents=True)
    inside = ndimage.binary_erosion(head.data > 0)
    Volume(inside, head.affine).write(folder / "sub-01_desc-brain_mask.nii.gz")
    elsewhere = folder / "sub-01_space-MNI152NLin2009cAsym_res-2_desc-brain_mask.nii.gz"
    Volume(inside[1:], head.affine).write(elsewhere)
    found = Own().find(head, stripped, tmp_path)
    assert (found.mask.data == inside).all()
    Volume(inside[1:], head.affine).write(folder / "sub-01_desc-brain_mask.nii.gz")
    with pytest.raises(DataError, match="resample it onto the scan"):
        Own().find(head, stripped, tmp_path)


def test_without_mask_own_alone_refuses_a_head(brain, stripped, tmp_path):
    head = scanned(1000 * with_skull(brain) + 1).reorient("RAS")
    with pytest.raises(DataError, match="is not skull-stripped"):
        Own(otherwise=None).find(head, stripped, tmp_path)


def test_a_tool_is_run_by_its_command(stripped, tmp_path):
    head = Volume.read(stripped.image).reorient("RAS")
    found = Command(command="cp {image} {mask}").find(head, stripped, tmp_path)
    assert (found.mask.data == (head.data > 0)).all()
    for command, reason in (
        ("no-such-tool {image} {mask}", "'no-such-tool' is not installed"),
        ("false {image} {mask}", "'false' failed with 1"),
        ("true {image} {mask}", "wrote no {mask}"),
    ):
        with pytest.raises(DataError, match=reason):
            Command(command=command).find(head, stripped, tmp_path)
    with pytest.raises(ValueError, match=r"does not say .mask."):
        Command(command="bet {image}")


def test_transforms_come_back_from_their_file(tmp_path):
    path = tmp_path / "sub-01_xfm.txt"
    keep_transform(path, turned(), native_grid(), "sub-01_T1w.nii.gz")
    assert apart_mm(read_transform(path), turned()) < 1e-9
    assert read_native_grid(path).matches(native_grid())
    path.write_text("not a transform")
    with pytest.raises(DataError, match="cannot be read as an ITK transform"):
        read_transform(path)


def test_mutual_information_against_scipy(brain):
    rng = np.random.default_rng(0)
    a = brain[brain > 0][::50]
    b = a + 0.1 * rng.standard_normal(a.shape)
    joint = np.histogram2d(a, b, bins=32)[0]
    expected = (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint.ravel())
    assert qc.normalised_mutual_information(a, b) == pytest.approx(expected)
    assert qc.normalised_mutual_information(a, a) == pytest.approx(2)


def test_outliers_are_flagged_among_many_and_misplaced_ones_always():
    good = {"overlap": 0.97, "filled": 0.95, "cut_percent": 0.0, "brain_ml": 1200.0, "offset": 0.0}
    rows = [{**good, "brain_ml": 1200.0 + 10 * i} for i in range(9)]
    assert qc.flags(rows) == [""] * 9
    rows[4]["brain_ml"] = 2400.0
    assert [bool(w) for w in qc.flags(rows)] == [i == 4 for i in range(9)]
    assert qc.flags([{**good, "overlap": 0.5}]) == ["overlap below 0.85"]
    assert qc.flags([{**good, "filled": 0.7, "offset": 40.0}]) == [
        "filled below 0.82; 40 was put on all intensities"
    ]
    assert qc.flags(rows[3:6]) == [""] * 3  # too few to stand out from
