"""A header that claims what cannot be is told before memory is asked for."""

import gzip
import logging
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vol3d.errors import DataError
from vol3d.io.header import holds, read_header
from vol3d.volume import Volume

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
MIRRORED = np.diag([-2.0, 2.0, 2.0, 1.0])
OTHER_AXES = np.array([[0, 0, -2, 9], [2, 0, 0, 0], [0, -2, 0, 0], [0, 0, 0, 1.0]])


def image(sform: np.ndarray | None, qform: np.ndarray | None, dtype: object = "f4"):
    made = nib.Nifti1Image(np.zeros((4, 5, 6), dtype), AFFINE)
    made.set_sform(sform, 0 if sform is None else 1)
    made.set_qform(qform, 0 if qform is None else 2)
    return made


def placed_at(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 3] = mm
    return affine


def in_metres():
    made = image(AFFINE, AFFINE)
    made.header.set_xyzt_units("meter")
    return made


RGB = [("R", "u1"), ("G", "u1"), ("B", "u1")]
REFUSED = {
    "mirrored": (image(AFFINE, MIRRORED), "sform .* point to RAS, its qform to LAS.*fslorient.*form="),
    "other axes": (image(AFFINE, OTHER_AXES), "sform .* RAS, its qform to AIL"),
    "flat": (image(np.diag([2.0, 2, 0, 1]), None), "sform gives voxels no size"),
    "metres": (in_metres(), "lengths are in metres, mm are due"),
    "colours": (image(AFFINE, AFFINE, RGB), "colour image .*grey"),
    "complex": (image(AFFINE, AFFINE, "c8"), "complex numbers; give their magnitude"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(tmp_path: Path, name: str):
    made, words = REFUSED[name]
    nib.save(made, path := tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match=words) as caught:
        read_header(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_which_placement_holds_can_be_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    nib.save(image(AFFINE, MIRRORED), path := tmp_path / "a.nii.gz")
    assert Volume.read(path, "sform").orientation == "RAS"
    chosen = Volume.read(path, "qform")
    assert (chosen.orientation, chosen.space_code) == ("LAS", 2)
    assert not caplog.records
    nib.save(image(None, MIRRORED), path)
    assert Volume.read(path, "sform").orientation == "LAS"  # nothing to choose from


def test_where_they_differ_without_a_flip_it_is_told_which_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    nib.save(image(placed_at(0), placed_at(3)), path := tmp_path / "a.nii.gz")
    assert np.allclose(Volume.read(path).affine, placed_at(0))
    assert "up to 5.2 mm apart, and the sform is used" in caplog.text
    caplog.clear()
    nib.save(image(placed_at(0), placed_at(1)), path)  # less than a voxel
    assert Volume.read(path)
    with caplog.at_level(logging.INFO):
        assert not caplog.records


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_more_voxels_than_the_file_holds(tmp_path: Path, ending: str):
    nib.save(image(AFFINE, AFFINE), path := tmp_path / f"a.{ending}")
    opened = gzip.open if ending == "nii.gz" else open
    with opened(path, "rb") as file:
        content = bytearray(file.read())
    content[40:56] = struct.pack("<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)
    with opened(path, "wb") as file:
        file.write(content)
    with pytest.raises(DataError, match=r"claims 32767x.* 140,724,603,846,652 in all.* holds 480;"):
        Volume.read(path)


def test_a_packed_file_is_counted_where_its_trailer_does_not_tell(tmp_path: Path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(b"a" * 3000) + gzip.compress(b""))  # as bgzip ends
    assert holds(path, 2000) == 2000
    assert holds(path, 4000) == 3000
    path.write_bytes(b"")
    assert holds(path, 1) == 0


@pytest.mark.parametrize("ending", ["nii.gz", "img.gz", "mgz"])
def test_a_packed_file_that_was_damaged_in_the_middle(tmp_path: Path, ending: str):
    values = np.random.default_rng(0).integers(0, 9000, (20, 20, 20)).astype(np.int16)
    kind = {"nii.gz": nib.Nifti1Image, "img.gz": nib.Nifti1Pair, "mgz": nib.MGHImage}[ending]
    nib.save(kind(values, AFFINE), path := tmp_path / f"a.{ending}")
    assert np.array_equal(Volume.read(path).data, values)
    packed = gzip.compress(gzip.decompress(path.read_bytes()), 0)  # so that no code is damaged
    middle = len(packed) // 2
    path.write_bytes(packed[:middle] + bytes([packed[middle] ^ 1]) + packed[middle + 1 :])
    with pytest.raises(DataError, match=r"a\..*cannot be read .*CRC.*; copy it again"):
        Volume.read(path)
