"""What scans look like is told before anything is learnt from them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vol3d.data.datasets import Table
from vol3d.data.images import Images
from vol3d.data.preparation.pipeline import Steps, prepare
from vol3d.data.scan_checks import not_stripped
from vol3d.errors import DataError
from vol3d.volume import Volume, mni_grid

GRID = mni_grid(8.0)


def brain() -> np.ndarray:
    data = np.zeros(GRID.shape, np.float32)
    inside = data[5:15, 6:20, 5:15]
    inside[:] = np.random.default_rng(0).uniform(0.5, 1, inside.shape)
    return data


def people(folder: Path, *scans: tuple[np.ndarray, np.ndarray, int], **settings: object) -> Table:
    """A table of scans: voxels, affine, and the code of the world."""
    rows = ["subject\timage\tsplit"]
    for i, (data, affine, code) in enumerate(scans):
        Volume(data, affine, code).write(folder / f"{i}.nii.gz")
        rows.append(f"p{i}\t{i}.nii.gz\ttrain")
    (folder / "scans.tsv").write_text("\n".join(rows))
    return Table(path=folder / "scans.tsv", **settings)


def moved(mm: float) -> np.ndarray:
    affine = GRID.affine.copy()
    affine[0, 3] += mm
    return affine


def test_brains_in_mni_space_are_worth_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    good = (brain(), GRID.affine, 4)
    assert Images(people(tmp_path, good, good)).grid.matches(GRID)
    assert Images(people(tmp_path, good, grid="4mm")).grid.shape == (40, 56, 40)
    assert not caplog.records


def test_what_is_no_stripped_brain_is_told_in_its_volume():
    assert not not_stripped(Volume(brain(), GRID.affine))
    wrong = np.diag([1.6, 1.6, 1.6, 1.0]) @ GRID.affine  # voxel sizes of another scan
    ml = np.count_nonzero(brain()) * (0.8 * 1.6) ** 3
    assert f"{ml:.0f} ml of it are above 0" in not_stripped(Volume(brain(), wrong))
    tight = Volume(brain()[5:15, 6:20, 5:15], GRID.affine)
    assert "only 0 % of its voxels are 0" in not_stripped(tight)


def test_the_odd_one_out_is_named_even_if_it_is_the_first(tmp_path: Path):
    good, far = (brain(), GRID.affine, 4), (brain(), moved(1000), 4)
    with pytest.raises(DataError, match=r"sub-p0: .* up to 1000.0 mm off .* 2 of 3 scans share"):
        Images(people(tmp_path, far, good, good))


def test_a_scan_with_two_left_sides_is_refused_before_voxels_are_read_unless_one_is_chosen(
    tmp_path: Path,
):
    source = people(tmp_path, (brain(), GRID.affine, 4), (brain(), GRID.affine, 4))
    odd = nib.load(tmp_path / "1.nii.gz")
    odd.set_qform(np.diag([-1.0, 1, 1, 1]) @ GRID.affine, 4)
    nib.save(odd, tmp_path / "1.nii.gz")
    with pytest.raises(DataError, match=r"1\.nii\.gz: its sform .* RAS, its qform to LAS"):
        Images(source)
    for form, flip in (("sform", 1), ("qform", -1)):
        images = Images(source.model_copy(update={"form": form}))
        read = images.image(images.train[1])[0]
        assert np.array_equal(read[::flip], images.image(images.train[0])[0])


def test_an_image_without_contrast_is_refused(tmp_path: Path):
    same = np.full(GRID.shape, 7, np.int16)
    source = people(tmp_path, (same, GRID.affine, 4))
    with pytest.raises(DataError, match=r"0\.nii\.gz: has no contrast, .* are 7"):
        Images(source)
    with pytest.raises(DataError, match="no contrast"):
        prepare(source.scans()[0], tmp_path, Steps())


def test_heads_are_told_once_with_the_remedy(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    head = (brain() + 1, moved(56), 1)
    Images(people(tmp_path, head, head, head, grid="8mm"))
    told = sorted(record.getMessage() for record in caplog.records)
    assert len(told) == 3
    assert all("vol3d prepare" in line for line in told)
    assert "0.nii.gz: 35 % of what is not 0 lie outside the grid" in told[0] + told[1]
    assert "0.nii.gz: 5734 ml of its 5734 ml are not 0" in told[0] + told[1]
    assert "3 of 3 scans (0.nii.gz): neither header nor name says MNI space" in told[2]


@pytest.mark.parametrize("grid", [[], ["own"]])
def test_what_is_below_zero_is_told_once(tmp_path: Path, caplog, grid: list[str]):
    data = brain()
    z_scored = np.where(data > 0, data - data[data > 0].mean(), 0)
    rung = data - 0.01 * np.roll(data, 3, 0) * (data == 0)  # as splines leave it
    Images(people(tmp_path, (rung, GRID.affine, 4)))
    assert not caplog.records
    scan = (z_scored, GRID.affine, 4)
    Images(people(tmp_path, scan, scan, grid=grid))
    (record,) = caplog.records
    assert "0.nii.gz: values below 0 make up 50 % of it" in record.getMessage()
