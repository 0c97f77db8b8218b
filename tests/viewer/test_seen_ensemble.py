"""What is read back of a segmentation is what the ensemble said."""

from pathlib import Path

import numpy as np
import pytest

from tests.segmented import AFFINE, SHAPE, STRUCTURE, VOXEL_ML, box, person, segmentation
from vol3d.data.bids_writer import anat_path
from vol3d.errors import DataError
from vol3d.viewer.beside import dataset_of
from vol3d.viewer.ensemble import SegmentedVisit, visits_in
from vol3d.volume import Volume

MEMBERS = [box(4, 4, 4), box(4, 4, 3), box(4, 4, 2), box(4, 4, 1)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A segmentation by four members, and the data of it with two raters."""
    base = tmp_path_factory.mktemp("ensemble")
    visit = person(base / "data", "sub-01", {"anna": box(4, 4, 4), "ben": box(4, 4, 2)})
    told = {"Inputs": {"T1w": {"File": visit.image.name}}, "Interval": 0.9}
    segmentation(base / "out", visit, MEMBERS, **told)
    return base / "out", base / "data"


@pytest.fixture
def visit(folders: tuple[Path, Path]) -> SegmentedVisit:
    out, data = folders
    (sidecar,) = visits_in(out).values()
    return SegmentedVisit(sidecar, data).loaded()


def test_maps_are_those_of_the_members(visit: SegmentedVisit):
    mean = np.mean(MEMBERS, axis=0)
    assert visit.structures == [STRUCTURE]
    assert np.abs(visit.probability(STRUCTURE).data - mean).max() < 1e-4
    assert np.abs(visit.uncertainty("variance").data - 2 * mean * (1 - mean)).max() < 1e-3
    assert [np.array_equal(m.data, d) for m, d in zip(visit.members, MEMBERS, strict=True)] == [
        True
    ] * 4
    assert visit.members[0].grid.matches(visit.labels().grid)


@pytest.mark.parametrize(("threshold", "members"), [(0.0, 4), (0.2, 4), (0.6, 2), (1.0, 1)])
def test_a_threshold_keeps_what_is_that_probable(
    visit: SegmentedVisit, threshold: float, members: int
):
    labels = visit.above(threshold)
    assert np.array_equal(labels.data, box(4, 4, members))
    assert visit.volume_ml(labels, STRUCTURE) == pytest.approx(16 * members * VOXEL_ML)
    assert labels.grid.matches(Volume(np.zeros(SHAPE), AFFINE).grid)


def test_the_histogram_counts_every_member(visit: SegmentedVisit):
    found = visit.histogram(STRUCTURE)
    assert found.counts.sum() == 4
    ml = 16 * VOXEL_ML * np.array([4, 3, 2, 1])
    assert found.mean == pytest.approx(ml.mean())
    assert found.low == pytest.approx(np.quantile(ml, 0.05), abs=1e-5)
    assert found.edges[0] < ml.min() < ml.max() < found.edges[-1]
    assert found.conformal is None


def test_images_and_raters_are_found_in_the_data(visit: SegmentedVisit):
    assert [*visit.images] == ["T1w"]
    assert {name: int(v.data.sum()) for name, v in visit.raters.items()} == {"anna": 64, "ben": 32}


def test_raters_of_several_structures_are_told_apart(tmp_path: Path):
    who = person(tmp_path / "data", "sub-01", {"anna": box(4, 4, 4)})
    for label, size in (("lesions", 3), ("ventricles", 2)):
        for suffix in ("mask", "dseg"):
            said = {"label": label, "desc": "ben"}
            path = anat_path(tmp_path / "data", "sub-01", said, suffix)
            Volume(box(size, 1, 1), AFFINE).write(path)
    segmentation(tmp_path / "out", who, MEMBERS, Inputs={"T1w": {"File": who.image.name}})
    (sidecar,) = visits_in(tmp_path / "out").values()
    raters = SegmentedVisit(sidecar, tmp_path / "data").raters
    assert {name: int(v.data.sum()) for name, v in raters.items()} == {
        "anna": 64,
        "lesions ben": 3,
        "ventricles ben": 2,
        "label-lesions_desc-ben_mask": 3,
        "label-ventricles_desc-ben_mask": 2,
    }


def test_what_vol3d_made_within_the_data_is_by_nobody(tmp_path: Path):
    data = tmp_path / "data"
    who = person(data, "sub-01", {"anna": box(4, 4, 4)})
    later = anat_path(data, "sub-01_ses-2", {"desc": "later"}, "dseg")
    Volume(box(1, 1, 1), AFFINE).write(later)
    told = {"Inputs": {"T1w": {"File": who.image.name}, "FLAIR": {"File": "sub-01_FLAIR.nii.gz"}}}
    for name in ("one", "other"):
        segmentation(data / "derivatives" / name, who, MEMBERS, **told)
    (sidecar,) = visits_in(data / "derivatives" / "one").values()
    visit = SegmentedVisit(sidecar, data).loaded()
    assert visit.rater_files == {"anna": anat_path(data, "sub-01", {"desc": "anna"}, "dseg")}
    assert visit.lacking == ["sub-01_FLAIR.nii.gz"]
    assert dataset_of(who.image) == data
    assert dataset_of(tmp_path / "T1w.nii.gz") is None


def test_without_the_data_there_are_none(folders: tuple[Path, Path]):
    visit = SegmentedVisit(next(iter(visits_in(folders[0]).values())))
    assert (visit.images, visit.raters) == ({}, {})


def test_another_folder_is_refused(folders: tuple[Path, Path]):
    with pytest.raises(DataError, match="vol3d segment"):
        visits_in(folders[1])
