"""The Generate widget, driven through its own controls with the model in the box."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.viewer.conftest import picture, settle, until
from vol3d.data.tables import read_rows
from vol3d.trained import TrainedGenerator

if TYPE_CHECKING:
    from napari import Viewer

    from vol3d.widgets.generate import GenerateWidget

pytestmark = pytest.mark.viewer
FEW = {"steps": 4, "micro_batch": 1}


def opened(viewer: "Viewer") -> "GenerateWidget":
    """The widget, once its first brain is drawn, at few steps from then on."""
    from vol3d.widgets.generate import GenerateWidget

    widget = GenerateWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.window._qt_window.resize(1400, 1000)
    until(lambda: widget.model is not None, 60)
    widget.sampler.set("steps", FEW["steps"])
    until(lambda: len(viewer.layers) and not widget.work.is_busy, 60)
    return widget


def drawn(widget: "GenerateWidget") -> None:
    until(lambda: not widget.work.is_busy, 60)
    settle()


def test_a_slider_asks_for_another_brain_and_cancel_stops_it(viewer: "Viewer"):
    widget = opened(viewer)
    (layer,) = viewer.layers
    model = TrainedGenerator("ready", sampler=FEW)
    line = widget.sliders.lines["ventricles_ml"]

    line.slider.setValue(line.slider.step_of(60.0))
    drawn(widget)
    (layer,) = viewer.layers
    told = layer.metadata["generated"]
    assert told["asked"] == {"ventricles_ml": line.box.value()}
    assert told["asked"]["ventricles_ml"] == pytest.approx(60, abs=0.2)
    row = model.complete(told["asked"], 0)
    assert told["covariates"] == row
    expected = model.generate([row], [0])[0, 0].numpy()
    shown = np.asarray(layer.data).transpose(2, 1, 0)
    assert np.abs(shown - expected).max() < 1e-4
    assert widget.sliders.lines["age"].box.value() == pytest.approx(row["age"], abs=0.1)
    assert not widget.sliders.doubt.isVisible()
    assert picture(viewer).max() > 200

    # Beyond the training range, which is marked, it warns and draws all the same.
    left, right = line.slider.marked
    assert 0 < left < right < line.slider.maximum()
    line.slider.setValue(line.slider.maximum())
    drawn(widget)
    assert "outside the range seen in training, 9.85 to 71.78 ml" in widget.sliders.doubt.text()
    assert layer.metadata["generated"]["asked"]["ventricles_ml"] > 80

    # What is stopped shows nothing more.
    before = np.array(layer.data)
    widget.live.setChecked(False)
    widget.sampler.set("steps", 400)
    widget.button.click()
    until(lambda: widget.work.bar.value() > 0, 60)
    widget.work.cancel.click()
    until(lambda: not widget.work.is_busy, 60)
    assert widget.work.message.text() == "stopped"
    assert not widget.work.cancel.isEnabled()
    between = np.array(layer.data)
    settle(20)
    assert np.array_equal(layer.data, between)
    widget.sampler.set("steps", FEW["steps"])
    widget.button.click()
    drawn(widget)
    assert np.array_equal(layer.data, before)


def test_samples_side_by_side_a_sweep_and_a_cohort(viewer: "Viewer", tmp_path: Path):
    widget = opened(viewer)
    widget.draws.set("n", 2)
    drawn(widget)
    assert [layer.name for layer in viewer.layers] == ["seed 0", "seed 1"]
    assert viewer.canvas.grid.enabled
    shown = picture(viewer).mean(2)
    half = shown.shape[1] // 2
    assert shown[:, :half].std() > 20
    assert shown[:, half:].std() > 20
    assert not np.array_equal(viewer.layers[0].data, viewer.layers[1].data)
    viewer.layers[1].opacity = 0
    shown = picture(viewer).mean(2)
    assert shown[:, :half].std() > 20 > shown[:, half:].std()  # the first seed is on the left
    viewer.layers[1].opacity = 1

    widget.saving.set("out", str(tmp_path / "cohort"))
    widget.save_button.click()
    until(lambda: not widget.saving_work.is_busy, 60)
    assert widget.saving_work.message.text() == f"written: {tmp_path / 'cohort'}"
    rows = read_rows(tmp_path / "cohort" / "participants.tsv")
    assert [row["seed"] for row in rows] == ["0", "1"]
    assert float(rows[1]["age"]) == pytest.approx(
        viewer.layers[1].metadata["generated"]["covariates"]["age"], abs=1e-3
    )

    widget.swept.setCurrentText("ventricles_ml")
    widget.sweep_steps.setValue(3)
    widget.sweep_button.click()
    drawn(widget)
    (sweep,) = (layer for layer in viewer.layers if layer.name.startswith("sweep"))
    assert sweep.data.shape == (3, 40, 56, 40)
    assert [t["covariates"]["ventricles_ml"] for t in sweep.metadata["generated"]] == [
        pytest.approx(v, abs=0.06) for v in (9.85, 40.8, 71.78)
    ]
    assert not viewer.layers[0].visible
    pictures = []
    for at, words in ((0, "ventricles_ml 9.8 ml"), (2, "ventricles_ml 71.8 ml")):
        viewer.dims.set_point(0, at)
        settle()
        assert viewer.canvas.overlays.text.text.replace("9.9", "9.8") == words
        pictures.append(picture(viewer).astype(float))
    assert np.abs(pictures[0] - pictures[1]).mean() > 3

    widget.button.click()  # back to the samples
    drawn(widget)
    assert [layer.visible for layer in viewer.layers] == [True, True, False]
    assert not viewer.canvas.overlays.text.visible


def test_a_slider_does_not_end_what_is_being_saved(viewer: "Viewer", tmp_path: Path):
    widget = opened(viewer)
    (layer,) = viewer.layers
    widget.live.setChecked(False)
    widget.draws.set("n", 6)
    widget.saving.set("out", str(tmp_path / "cohort"))
    widget.save_button.click()
    until(lambda: widget.saving_work.bar.value() > 0, 60)
    widget.draws.set("n", 1)
    widget.live.setChecked(True)
    before = np.array(layer.data)
    line = widget.sliders.lines["ventricles_ml"]
    line.slider.setValue(line.slider.step_of(60.0))
    drawn(widget)
    assert not np.array_equal(layer.data, before)  # the brain that the slider asks for
    widget.save_button.click()  # once more has no effect while it is at work
    until(lambda: not widget.saving_work.is_busy, 60)
    assert widget.saving_work.message.text() == f"written: {tmp_path / 'cohort'}"
    rows = read_rows(tmp_path / "cohort" / "participants.tsv")
    assert [row["seed"] for row in rows] == [*"012345"]
    assert len({row["ventricles_ml"] for row in rows}) == 6  # none was asked for when it began


def test_what_is_wrong_is_told_below(viewer: "Viewer", tmp_path: Path):
    _, widget = viewer.window.add_plugin_dock_widget("vol3d", "Generate")  # as from the menu
    widget.open(str(tmp_path / "nothing"))  # before any model is open
    drawn(widget)
    assert "no such folder" in widget.work.message.text()
    assert widget.model is None
    widget.source.set("bundle", "ready")
    widget.source.changed.emit()
    until(lambda: widget.model is not None, 60)
    widget.source.set("bundle", str(tmp_path / "nothing"))
    widget.source.changed.emit()
    drawn(widget)
    assert "no such folder" in widget.work.message.text()
    widget.save_button.click()
    assert widget.saving_work.message.text() == "out: name the folder to write"
    assert widget.model is not None
