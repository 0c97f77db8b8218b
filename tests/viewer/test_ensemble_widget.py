"""The Ensemble widget, driven through its own controls on a segmentation whose members are known."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.segmented import AFFINE, SHAPE, STRUCTURE, VOXEL_ML, person, segmentation
from tests.viewer.conftest import picture, settle, until
from vol3d.data.bids_writer import anat_path

if TYPE_CHECKING:
    from napari import Viewer

    from vol3d.widgets.ensemble import EnsembleWidget

pytestmark = pytest.mark.viewer
BIG, SMALL = (slice(1, 5), slice(1, 5), slice(1, 5)), (slice(8, 10), slice(6, 8), slice(5, 7))


def member(*pieces: tuple[slice, ...]) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for piece in pieces:
        labels[piece] = 1
    return labels


MEMBERS = [member(BIG, SMALL), member(BIG, SMALL), member(BIG, SMALL), member(BIG)]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two pieces, of which one member misses the small one; a rater has the large one alone."""
    data, out = tmp_path / "data", tmp_path / "out"
    visit = person(data, "sub-01", {"anna": member(BIG)})
    told = {"Inputs": {"T1w": {"File": visit.image.name}}, "Interval": 0.9}
    segmentation(out, visit, MEMBERS, [STRUCTURE], **told)
    assert anat_path(data, "sub-01", {}, "T1w") == visit.image
    return out, data


def opened(viewer: "Viewer", folders: tuple[Path, Path]) -> "EnsembleWidget":
    from vol3d.widgets.ensemble import EnsembleWidget

    widget = EnsembleWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.window._qt_window.resize(1400, 1000)
    for name, folder in zip(("out", "data"), folders, strict=True):
        widget.folders.set(name, str(folder))
    widget.folders.changed.emit()
    until(lambda: widget.visit is not None and not widget.work.is_busy, 60)
    return widget


def in_file(data: np.ndarray) -> np.ndarray:
    """An array of napari, Z, Y, X in RAS, in the order of the file, LAS."""
    return np.asarray(data).transpose(2, 1, 0)[::-1]


def test_maps_a_threshold_and_the_volumes(viewer: "Viewer", folders: tuple[Path, Path]):
    widget = opened(viewer, folders)
    assert [layer.name for layer in viewer.layers] == ["T1w", "threshold"]
    labels = widget.shown["threshold"]
    assert np.array_equal(in_file(labels.data), member(BIG, SMALL))
    assert labels.contour == 1
    outlined = picture(viewer)

    widget.threshold.setValue(90)  # three of four members are not enough
    assert np.array_equal(in_file(labels.data), member(BIG))
    assert f"{STRUCTURE} {64 * VOXEL_ML:.2f} ml" in widget.sizes.text()
    widget.contours.setChecked(False)
    assert labels.contour == 0
    filled = picture(viewer)
    outlined, filled = (np.count_nonzero(np.ptp(p, axis=-1) > 40) for p in (outlined, filled))
    assert filled > 1.2 * outlined  # pixels that have a colour

    mean = np.mean(MEMBERS, axis=0)
    p = 0.75
    variance = 2 * p * (1 - p)
    for name, expected in (
        (f"probability of {STRUCTURE}", mean),
        ("variance", np.where(mean == p, variance, 0)),
        ("entropy", np.where(mean == p, -p * np.log(p) - (1 - p) * np.log(1 - p), 0)),
        ("mutual information", np.where(mean == p, 0.5623, 0)),  # members leave nothing open
        ("anna", member(BIG)),
        ("STAPLE", member(BIG, SMALL)),
    ):
        widget.maps[name].setChecked(True)
        assert np.abs(in_file(widget.shown[name].data) - expected).max() < 2e-3, name
        widget.maps[name].setChecked(False)
        assert not widget.shown[name].visible
    widget.maps["members"].setChecked(True)
    assert [in_file(m).sum() for m in widget.shown["members"].data] == [72, 72, 72, 64]

    found = widget.plot.histogram
    assert found.counts.sum() == 4
    assert found.mean == pytest.approx(70 * VOXEL_ML, abs=1e-4)
    assert f"{70 * VOXEL_ML:.2f} ml, 90% of members" in widget.plot.words
    settle()
    assert widget.plot.grab().toImage().width() > 100


def test_a_click_on_a_lesion_goes_there(viewer: "Viewer", folders: tuple[Path, Path]):
    widget = opened(viewer, folders)
    rows = [widget.lesions.item(i, 2).text() for i in range(widget.lesions.rowCount())]
    assert rows == ["100%", "75%"]
    for row, piece in ((1, SMALL), (0, BIG)):
        widget.lesions.selectRow(row)
        settle()
        centre = [(s.start + s.stop - 1) / 2 for s in piece]
        mm = AFFINE[:3, :3] @ centre + AFFINE[:3, 3]
        assert np.abs(np.array(viewer.dims.point)[::-1] - mm).max() <= 1  # half a voxel
        assert np.allclose(viewer.scene.camera.center[:0:-1], mm[:2], atol=0.01)  # x and y, in 2-D
        assert np.allclose(widget.shown["lesion"].data[0][::-1], mm, atol=0.01)
        shown = picture(viewer).astype(float)
        ring = (shown[..., :2].min(-1) > 180) & (shown[..., 2] < 120)  # yellow
        off = np.argwhere(ring).mean(0) - np.array(ring.shape) / 2
        assert np.abs(off).max() < 0.03 * max(ring.shape)  # around the middle of the screen


def test_another_folder_is_refused_in_a_line(viewer: "Viewer", folders: tuple[Path, Path]):
    _, widget = viewer.window.add_plugin_dock_widget("vol3d", "Ensemble")  # as from the menu
    widget.folders.set("out", str(folders[1]))
    widget.folders.changed.emit()
    until(lambda: not widget.work.is_busy, 60)
    assert "is no folder that vol3d segment wrote" in widget.work.message.text()


def test_what_others_opened_stays_with_what_was_drawn(viewer: "Viewer", folders: tuple[Path, Path]):
    from vol3d.viewer.files import layers_of_file
    from vol3d.viewer.window import add

    out, data = folders
    other = person(data, "sub-02", {"anna": member(BIG)})
    told = {"Inputs": {"T1w": {"File": other.image.name}}, "Interval": 0.9}
    segmentation(out, other, MEMBERS, [STRUCTURE], **told)
    files = [
        anat_path(data, "sub-01", said, suffix)
        for said, suffix in (({}, "T1w"), ({"desc": "anna"}, "dseg"))
    ]
    image, labels = add(viewer, [layer for path in files for layer in layers_of_file(path)])
    widget = opened(viewer, folders)
    assert (widget.shown["T1w"], widget.shown["anna"]) == (image, labels)
    labels.data[0, 0, 0] = 1

    widget.visits.setCurrentText("sub-02")
    until(lambda: widget.visit.visit == "sub-02" and not widget.work.is_busy)
    assert {image, labels} < {*viewer.layers}
    assert labels.data[0, 0, 0] == 1
    assert not image.visible  # it is of somebody else
    assert [layer.name for layer in viewer.layers if layer.visible] == ["T1w", "threshold"]
    widget.visits.setCurrentText("sub-01")
    until(lambda: widget.visit.visit == "sub-01" and not widget.work.is_busy)
    assert image.visible
    assert [*viewer.layers] == [image, labels, widget.shown["threshold"]]
    widget.follow("sub-02")  # as a table does, which may keep those loaded
    assert [*viewer.layers] == [image, labels]
