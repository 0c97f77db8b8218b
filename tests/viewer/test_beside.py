"""What vol3d view puts beside the picture, in real windows: hidden layers and widgets come later."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import vol3d
from tests.conftest import verb
from tests.segmented import STRUCTURE, box, person, segmentation
from tests.viewer.conftest import lacking, picture, settle, until
from tests.viewer.test_seen_registration import FIXED, MOVING
from vol3d.errors import ConfigError
from vol3d.viewer.folders import layers_at
from vol3d.viewer.registered import files_of_pair, pairs_in
from vol3d.volume import Volume

pytestmark = [pytest.mark.viewer, pytest.mark.timeout(300)]
Opener = Callable[..., object]
PICTURE_FIRST = """
import sys
from pathlib import Path
from vol3d.viewer.session import Session
session = Session([*map(Path, sys.argv[1:])])
assert session.viewer.screenshot(flash=False).std() > 5, "nothing is drawn"
assert not {"torch", "SimpleITK", "vol3d.widgets.form"} & sys.modules.keys(), "loaded too early"
session.complete()
session.wait()
assert "vol3d.widgets.ensemble" in sys.modules
session.viewer.close()
"""


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens a session, whose window is closed in the end."""
    if line := lacking():
        pytest.skip(line)
    from vol3d.viewer.session import Session

    sessions = []

    def open_paths(*paths: Path, **settings: str) -> "Session":
        sessions.append(Session([*paths], **settings))
        return sessions[-1]

    yield open_paths
    for session in sessions:
        session.viewer.close()
    settle()


@pytest.fixture
def segmented(tmp_path: Path) -> tuple[Path, Path]:
    """Two people, of whom the first was segmented."""
    data, out = tmp_path / "data", tmp_path / "out"
    visit = person(data, "sub-01", {"anna": box(4, 4, 4)})
    person(data, "sub-02", {"anna": box(2, 2, 2)})
    told = {"Inputs": {"T1w": {"File": visit.image.name}}, "Interval": 0.9}
    segmentation(out, visit, [box(4, 4, 4), box(5, 4, 4)], **told)
    return data, out


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A ball that vol3d register has moved onto another."""
    folder = tmp_path_factory.mktemp("registered")
    (folder / "data").mkdir()
    for name, ball in (("sub-01_T1w", MOVING), ("sub-02_T1w", FIXED)):
        Volume((1000 * ball.data).astype(np.int16), ball.affine).write(
            folder / "data" / f"{name}.nii.gz"
        )
    files = [folder / "data" / f"sub-{i}_T1w.nii.gz" for i in ("01", "02")]
    few = ["optimise=2", "affine=false", "spacing=4", "pictures=false"]
    verb("register", *map(str, [*files, folder / "out"]), *few)
    return folder / "data", folder / "out"


def test_a_segmentation_has_its_widget_which_follows_the_table(
    opened: Opener, segmented: tuple[Path, Path]
):
    session = opened(*segmented)
    viewer = session.viewer
    seen = [settings["name"] for _, settings, _ in session.layers if settings.get("visible", True)]
    assert [layer.name for layer in viewer.layers] == seen == ["sub-01 T1w", "sub-01 dseg"]
    assert not {"Cohort", "Ensemble (vol3d)"} & {*viewer.window.dock_widgets}
    first = picture(viewer)
    assert (np.ptp(first, axis=-1) > 20).any()  # the consensus

    session.complete()
    session.wait()
    names = [settings["name"] for _, settings, _ in session.layers]
    assert [layer.name for layer in viewer.layers] == [*names, "threshold"]
    table, ensemble = (viewer.window.dock_widgets[n] for n in ("Cohort", "Ensemble (vol3d)"))
    assert (ensemble.visit.visit, ensemble.visit.structures) == ("sub-01", [STRUCTURE])
    # What is open already is not opened again: the ticks are of those layers.
    consensus = viewer.layers["sub-01 dseg"]
    assert ensemble.shown["consensus"] is consensus
    assert ensemble.shown["T1w"] is viewer.layers["sub-01 T1w"]
    assert ensemble.shown["entropy"] is viewer.layers["sub-01 desc-entropy_probseg"]
    assert [n for n, tick in ensemble.maps.items() if tick.isChecked()] == [
        "T1w",
        "consensus",
        "threshold",
    ]
    ensemble.maps["consensus"].setChecked(False)
    assert not consensus.visible

    # Nobody sees the segmentation of another person.
    table.load(1)
    until(lambda: "sub-02 T1w" in viewer.layers)
    until(lambda: not ensemble.work.is_busy)
    assert all(layer.name.startswith("sub-02") for layer in viewer.layers)
    assert (ensemble.visit, ensemble.visits.currentText()) == (None, "")
    table.load(0)
    until(lambda: ensemble.visit is not None and not ensemble.work.is_busy)
    assert {"sub-01 T1w", "threshold"} <= {layer.name for layer in viewer.layers}
    assert len([layer for layer in viewer.layers if "T1w" in layer.name]) == 1


def test_a_registration_has_its_widget(opened: Opener, registered: tuple[Path, Path]):
    data, out = registered
    session = opened(out)
    assert [layer.name for layer in session.viewer.layers] == ["sub-01 to 02"]
    picture(session.viewer)
    session.complete()
    session.wait()
    widget = session.viewer.window.dock_widgets["Registration (vol3d)"]
    assert "sub-02_T1w.nii.gz is not there: name the dataset" in widget.work.message.text()

    widget.source.folders.set("data", str(data))
    widget.source.folders.changed.emit()
    session.wait()
    assert widget.source.pairs.currentText() == "sub-01 to 02"
    assert Path(widget.source.files.values["moving"]) == data / "sub-01_T1w.nii.gz"
    at_end, still = widget.step.moved.data, Volume.read(data / "sub-01_T1w.nii.gz").data
    assert np.array_equal(at_end, Volume.read(next(out.rglob("*registered_T1w.nii.gz"))).data)
    shown = [layer.name for layer in session.viewer.layers if layer.visible]
    assert shown == ["fixed", "moved"]
    assert widget.summary.text().startswith("1.00 of the flow")
    widget.path.setValue(0)
    until(lambda: widget.step.t == 0 and not widget.work.is_busy)
    assert np.abs(widget.step.moved.data - still).max() < 1

    # Of a pair whose fixed image is not found, nothing is shown: what was there is another's.
    widget.source.folders.set("data", None)
    widget.source.choose("sub-01 to 02")
    session.wait()
    assert "sub-02_T1w.nii.gz is not there" in widget.work.message.text()
    assert (widget.shown, widget.registration, widget.summary.text()) == ({}, None, "")
    assert not widget.path.isEnabled()


def test_of_a_moving_image_that_is_gone_the_end_of_the_path_is_seen(
    opened: Opener, registered: tuple[Path, Path], tmp_path: Path
):
    data, out = registered
    (tmp_path / "data").mkdir()
    shutil.copy(data / "sub-02_T1w.nii.gz", tmp_path / "data")
    # Another image of the same name is not taken for it.
    shutil.copy(data / "sub-02_T1w.nii.gz", tmp_path / "data" / "sub-01_T1w.nii.gz")
    (sidecar,) = pairs_in(out).values()
    pair = files_of_pair(sidecar, tmp_path / "data")
    assert (pair.fixed, pair.moving) == (tmp_path / "data" / "sub-02_T1w.nii.gz", None)
    session = opened(tmp_path / "data" / "sub-02_T1w.nii.gz", out)
    session.complete()
    session.wait()
    widget = session.viewer.window.dock_widgets["Registration (vol3d)"]
    assert not widget.path.isEnabled()
    assert "sub-01_T1w.nii.gz is not there" in widget.summary.text()
    assert {"fixed", "moved"} <= {layer.name for layer in session.viewer.layers if layer.visible}
    with pytest.raises(ConfigError, match="has no sub-07"):
        layers_at(out, "07")


def test_a_generator_has_its_widget(opened: Opener, tmp_path: Path):
    bundle = tmp_path / "mine"
    shutil.copytree(Path(vol3d.__file__).parent / "ready" / "diffusion", bundle)
    session = opened(bundle, plane="coronal")
    assert not session.viewer.layers
    session.complete()
    session.wait()
    docks = session.viewer.window.dock_widgets
    assert "kind: diffusion" in docks["Model mine"].text()
    widget = docks["Generate (vol3d)"]
    assert widget.source.values["bundle"] == str(bundle)
    assert [layer.name for layer in session.viewer.layers] == ["seed 0"]
    settle()
    axis = session.viewer.dims.order[0]
    assert session.viewer.dims.axis_labels[axis] == "y"  # across a coronal plane
    assert widget.isVisible()


def test_the_picture_comes_before_what_widgets_have_to_load(segmented: tuple[Path, Path]):
    if line := lacking():
        pytest.skip(line)
    done = subprocess.run(
        [sys.executable, "-c", PICTURE_FIRST, *map(str, segmented)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
