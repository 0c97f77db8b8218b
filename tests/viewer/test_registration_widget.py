"""The Registration widget, driven through its own controls on a transform that is known."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.viewer.conftest import picture, settle, until
from tests.viewer.test_seen_registration import AFFINE, FIXED, GRID, MIDDLE, MOVING, SHIFT, U
from vol3d.transforms.field_file import write_field

if TYPE_CHECKING:
    from napari import Viewer

    from vol3d.widgets.registration import RegistrationWidget

pytestmark = pytest.mark.viewer
FOLD = (10, 12, 14)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A ball, the same ball elsewhere, and the shift between them, which folds at one voxel."""
    w = np.zeros((3, *GRID.shape), np.float32)
    w[0][FOLD] = 3
    u = U + np.einsum("ij,jxyz->ixyz", AFFINE[:3, :3].astype(np.float32), w)
    paths = {name: tmp_path / f"{name}.nii.gz" for name in ("fixed", "moving", "transform")}
    FIXED.write(paths["fixed"])
    MOVING.write(paths["moving"])
    write_field(paths["transform"], u, GRID)
    return paths


def opened(viewer: "Viewer", files: dict[str, Path]) -> "RegistrationWidget":
    from vol3d.widgets.registration import RegistrationWidget

    widget = RegistrationWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.window._qt_window.resize(1400, 1000)
    for name, path in files.items():
        widget.source.files.set(name, str(path))
    widget.source.files.changed.emit()
    until(lambda: widget.step is not None and not widget.work.is_busy, 60)
    return widget


def as_volume(layer) -> np.ndarray:
    """What a layer shows, [X, Y, Z] in RAS+."""
    return np.asarray(layer.data).transpose(2, 1, 0)


def test_both_images_are_seen_along_the_path(viewer: "Viewer", files: dict[str, Path]):
    widget = opened(viewer, files)
    fixed, moved = (as_volume(widget.shown[name]) for name in ("fixed", "moved"))
    assert np.abs(fixed - FIXED.reorient("RAS").data).max() < 1e-5
    assert np.abs(fixed - moved).mean() < 1e-3
    together = picture(viewer).astype(float)
    widget.path.setValue(0)
    until(lambda: widget.step.t == 0 and not widget.work.is_busy, 60)
    settle()
    apart = as_volume(widget.shown["moved"])
    assert np.abs(apart - MOVING.reorient("RAS").data).max() < 1e-5
    # Green and magenta make grey where both are the same.
    shown = picture(viewer).astype(float)
    colour, grey = (np.abs(p[..., 0] - p[..., 1]).mean() for p in (shown, together))
    assert colour > 5 * grey
    assert widget.summary.text().startswith("0.00 of the displacement: furthest 0.0 mm")

    widget.share.setValue(0)
    shown = picture(viewer).astype(float)
    assert shown[..., 0].max() < 30 < 200 < shown[..., 1].max()  # the fixed image alone
    widget.mode.setCurrentText("swipe")
    assert not widget.shown["fixed"].visible
    for percent, alone in ((0, fixed), (100, apart)):
        widget.share.setValue(percent)
        seen = as_volume(widget.shown["compared"])
        assert np.corrcoef(seen.ravel(), alone.ravel())[0, 1] > 0.999
    widget.mode.setCurrentText("checkerboard")
    seen = as_volume(widget.shown["compared"])
    both = [np.corrcoef(seen.ravel(), one.ravel())[0, 1] for one in (fixed, apart)]
    assert all(0.2 < r < 0.95 for r in both)
    assert (picture(viewer).max(-1) > 150).sum() > 1000


def test_vectors_grid_jacobian_and_folds(viewer: "Viewer", files: dict[str, Path]):
    from vol3d.viewer.window import show_plane

    widget = opened(viewer, files)
    for name in ("vectors", "log-Jacobian", "folded voxels", "warped grid"):
        widget.overlays[name].setChecked(True)
    vectors, grid = (widget.shown[name] for name in ("vectors", "warped grid"))
    scale = np.diag(np.asarray(vectors.affine.affine_matrix))[-4:-1]
    along = (vectors.data[:, 1] * scale)[:, ::-1]
    assert np.median(np.abs(along - SHIFT)) < 1e-3
    assert np.nanmedian(as_volume(widget.shown["log-Jacobian"])) == pytest.approx(0, abs=1e-4)

    folded = widget.shown["folded voxels"]
    there = np.argwhere(np.asarray(folded.data))
    assert len(there)
    world = there @ np.asarray(folded.affine.affine_matrix)[:3, :3].T
    world = (world + np.asarray(folded.affine.affine_matrix)[:3, 3])[:, ::-1]
    at = AFFINE[:3, :3] @ FOLD + AFFINE[:3, 3]
    assert np.abs(world - at).max() <= 2.01  # its neighbours, 2 mm apart
    viewer.dims.set_point([0, 1, 2], at[::-1])
    shown = picture(viewer).astype(float)
    assert ((shown[..., 0] > 180) & (shown[..., 1:].max(-1) < 90)).any()  # red

    # The grid lies in the plane that is seen, and comes along.
    for plane, axis in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
        show_plane(viewer, plane)
        viewer.dims.set_point(2 - axis, MIDDLE[axis])
        settle()
        assert widget.plane == (axis, pytest.approx(MIDDLE[axis], abs=1.01))
        lines = grid.data[:, 0] @ np.asarray(grid.affine.affine_matrix)[:3, :3].T
        lines = (lines + np.asarray(grid.affine.affine_matrix)[:3, 3])[:, ::-1]
        assert np.allclose(lines[:, axis], widget.plane[1], atol=1e-3)
        shown = picture(viewer).astype(float)
        yellow = (shown[..., 0] > 150) & (shown[..., 1] > 120) & (shown[..., 2] < 120)
        assert yellow.sum() > 500
    widget.overlays["warped grid"].setChecked(False)
    assert "warped grid" not in viewer.layers


def test_a_file_that_is_no_transform_is_told_below(viewer: "Viewer", files: dict[str, Path]):
    _, widget = viewer.window.add_plugin_dock_widget("vol3d", "Registration")  # as from the menu
    for name, path in {**files, "transform": files["fixed"]}.items():
        widget.source.files.set(name, str(path))
    widget.source.files.changed.emit()
    until(lambda: not widget.work.is_busy, 60)
    assert "is no displacement field" in widget.work.message.text()
    assert not viewer.layers
