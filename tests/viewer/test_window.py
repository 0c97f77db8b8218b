"""vol3d view and the cohort's table with the real napari: what is clicked, and what is then seen."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.conftest import verb
from tests.viewer import scenes
from tests.viewer.conftest import picture, settle, until
from vol3d.data.bids_writer import anat_path, write_tsv
from vol3d.viewer.layers import image_layer, labels_layer
from vol3d.volume import Volume

if TYPE_CHECKING:
    from napari import Viewer

    from vol3d.viewer.cohort_widget import CohortWidget

pytestmark = [pytest.mark.viewer, pytest.mark.timeout(300)]
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
PEOPLE = 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """People of whom number i has a bright slab that begins at voxel 2 i; number 3 has no image."""
    rows = [
        {"participant_id": f"sub-{i}", "age": 90 - i, "sex": "FM"[i % 2]} for i in range(PEOPLE)
    ]
    write_tsv(tmp_path / "participants.tsv", rows)
    for i in {*range(PEOPLE)} - {3}:
        data = np.full((20, 20, 20), 10, np.float32)
        data[:, 2 * i :] = 100
        Volume(data, AFFINE).write(anat_path(tmp_path, f"sub-{i}", {}, "T1w"))
    return tmp_path


@pytest.fixture
def table(viewer: "Viewer") -> "CohortWidget":
    from vol3d.viewer.cohort_widget import CohortWidget

    widget = CohortWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Cohort", area="right")
    settle()
    return widget


def click(table: "CohortWidget", row: int, column: int = 0) -> None:
    """Click a cell of the table with the mouse."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    index = table.table.model().index(row, column)
    table.table.scrollTo(index)
    place = table.table.visualRect(index).center()
    QTest.mouseClick(table.table.viewport(), Qt.LeftButton, pos=place)


def names(viewer: "Viewer") -> list[str]:
    return [layer.name for layer in viewer.layers]


def test_filter_sort_and_click(viewer: "Viewer", table: "CohortWidget", folder: Path):
    table.open(folder)
    model = table.table.model()
    assert model.rowCount() == PEOPLE
    table.filter.setText("sex=F age<90")  # 2 and 4
    assert "2 of 5 rows" in table.line.text()
    table.table.sortByColumn(1, _ascending())
    assert [model.data(model.index(i, 0)) for i in range(2)] == ["sub-4", "sub-2"]
    click(table, 0)
    until(lambda: names(viewer) == ["sub-4 T1w"])
    assert edge(viewer) == pytest.approx(8)
    click(table, 1)
    until(lambda: names(viewer) == ["sub-2 T1w"])  # in place of the other
    assert edge(viewer) == pytest.approx(4)
    table.keep.setChecked(True)
    click(table, 0)
    until(lambda: names(viewer) == ["sub-2 T1w", "sub-4 T1w"])
    table.filter.setText("agee>3")
    assert table.line.text().startswith("no column 'agee'. Did you mean 'age'?")


def _ascending() -> object:
    from qtpy.QtCore import Qt

    return Qt.AscendingOrder


def edge(viewer: "Viewer") -> float:
    """At which voxel along Y the slab begins, as the screen shows it: bright above, dark below."""
    viewer.scene.camera.zoom = 4
    shown = picture(viewer).max(-1)
    column = shown[:, shown.shape[1] // 2]
    bright = np.flatnonzero(column > 200)
    rows = len(column)
    down = (bright.max() + 1 - rows / 2) / 4  # mm below the middle of the picture
    y = viewer.scene.camera.center[1] - down
    return round((y + 2) / 4 * 2) / 2


def test_whom_nothing_is_there_of(viewer: "Viewer", table: "CohortWidget", folder: Path):
    table.open(folder)
    click(table, 3)
    until(lambda: "has no image of sub-3" in table.line.text())
    click(table, 1)
    until(lambda: names(viewer) == ["sub-1 T1w"])
    table.open(folder / "sub-1" / "anat")
    assert "has no participants.tsv" in table.line.text()


def test_a_thousand_people_are_in_the_table_at_once(table: "CohortWidget", tmp_path: Path):
    """2 seconds on a machine that does nothing else."""
    rows = [{"participant_id": f"sub-{i:04d}", "age": i % 90, "sex": "F"} for i in range(1000)]
    write_tsv(tmp_path / "participants.tsv", rows)
    start = time.perf_counter()
    table.open(tmp_path)
    settle()
    assert time.perf_counter() - start < 4
    assert table.table.model().rowCount() == 1000


def test_the_line_below_follows_the_cursor(viewer: "Viewer"):
    from vol3d.viewer.cursor_widget import CursorWidget
    from vol3d.viewer.window import add

    grid = scenes.GRIDS["oblique"]
    (line,) = [w for w in viewer.window.dock_widgets.values() if isinstance(w, CursorWidget)]
    labels = labels_layer(Volume(scenes.cubes(grid), grid.affine), "mask", names={5: "fifth"})
    add(viewer, [image_layer(scenes.image(grid), "image"), labels])
    x, y, z = scenes.places(grid)[4]
    viewer.cursor.position = (z, y, x)
    assert line.label.text() == (
        f"x {x:.1f}, y {y:.1f}, z {z:.1f} mm   mask: 5 fifth [8, 8, 23]   image: 100 [8, 8, 23]"
    )
    viewer.dims.ndisplay = 3
    assert line.label.text() == "Places and values are told in 2-D."


def test_a_window_begins_where_a_page_does(viewer: "Viewer"):
    from vol3d.viewer.window import add, place_of

    scan, middle = scenes.aside(scenes.GRIDS["oblique"])
    add(viewer, [image_layer(scan, "scan")])
    assert np.abs(place_of(viewer) - middle).max() <= 1 + 1e-6  # slices are 2 mm apart


def test_files_dropped_on_napari_are_opened_by_us(viewer: "Viewer", tmp_path: Path):
    grid = scenes.GRIDS["turned and flipped"]
    scenes.image(grid).write(tmp_path / "sub-01_T1w.nii.gz")
    viewer.open(str(tmp_path / "sub-01_T1w.nii.gz"), plugin="vol3d")
    (layer,) = viewer.layers
    layer.save(str(tmp_path / "again.nii.gz"), plugin="vol3d")
    assert Volume.read(tmp_path / "again.nii.gz").grid.matches(grid)
    assert picture(viewer).max() > 200


def test_a_screenshot_shows_what_is_asked_for(tmp_path: Path):
    from matplotlib.image import imread

    from tests.viewer.conftest import lacking

    if line := lacking():
        pytest.skip(line)
    grid = scenes.GRIDS["oblique"]
    files = [tmp_path / "sub-01_T1w.nii.gz", tmp_path / "sub-01_label-cube_mask.nii.gz"]
    scenes.image(grid).write(files[0])
    Volume(scenes.cubes(grid), grid.affine).write(files[1])
    place = ",".join(f"{v:.2f}" for v in scenes.places(grid)[8])
    out = verb(
        "view",
        *map(str, files),
        f"at=[{place}]",
        f"screenshot={tmp_path / 'a.png'}",
        "plane=coronal",
    )
    shown = imread(out)[..., :3]
    colours = np.ptp(shown, axis=-1) > 0.15  # of the mask; the image is grey
    assert 0.0005 < colours.mean() < 0.05
    assert (shown.max(-1) > 0.3).mean() > 0.1
