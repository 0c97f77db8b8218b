"""Ensemble: what is where, how sure that is, how large it is, and each lesion at a click."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QLabel,
    QSlider,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from vol3d.report.slices import PALETTE
from vol3d.viewer.layers import (
    OURS,
    LayerTuple,
    image_layer,
    labels_layer,
    points_layer,
    probability_layer,
    replaced,
)
from vol3d.viewer.window import add, go_to, upright
from vol3d.widgets.fields import Field
from vol3d.widgets.form import Form
from vol3d.widgets.histogram import HistogramPlot
from vol3d.widgets.layout import group, scrolled
from vol3d.widgets.work import Work

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

    from vol3d.viewer.ensemble import SegmentedVisit
    from vol3d.volume import Volume

PERCENT = 100
THRESHOLD = "threshold"
FOLDERS = [
    Field("out", "The folder that vol3d segment wrote.", "folder", None),
    Field(
        "data",
        "The dataset that was segmented: its images are shown, and label maps by people.",
        "folder",
        None,
        optional=True,
    ),
]


class EnsembleWidget(QWidget):
    """One visit of a folder of `vol3d segment`.

    Attributes:
        visit: that is shown; None before.
        maps: a tick for each map that can be shown, by its name.
        shown: the layer of each map that was shown, likewise; of a map whose file somebody has opened
            already, that layer.
        added: the layers that the widget has added itself; it removes no other.
        hidden: layers that others opened of a visit that is no longer shown; they come back with it.
    """

    def __init__(self, napari_viewer: "Viewer") -> None:
        super().__init__()
        upright(napari_viewer)
        self.viewer, self.visit, self.wanted = napari_viewer, None, None
        self.sidecars: dict[str, Path] = {}
        self.maps: dict[str, QCheckBox] = {}
        self.shown: dict[str, Layer] = {}
        self.added: list[Layer] = []
        self.hidden: list[Layer] = []
        self.work = Work()
        self.folders, self.visits = Form(FOLDERS), QComboBox()
        self.folders.changed.connect(self.open)
        self.visits.currentTextChanged.connect(self.choose)
        self.choices = QWidget()
        self.choices.setLayout(QGridLayout())
        self.threshold = QSlider(Qt.Orientation.Horizontal)
        self.threshold.setRange(0, PERCENT)
        self.threshold.setValue(PERCENT // 2)
        self.threshold.valueChanged.connect(self.redraw)
        self.contours = QCheckBox("Contours alone")
        self.contours.setChecked(True)
        self.contours.toggled.connect(self.redraw)
        self.sizes = QLabel()
        self.structure, self.plot = QComboBox(), HistogramPlot()
        self.structure.currentTextChanged.connect(self.show_histogram)
        self.lesions = QTableWidget(0, 4)
        self.lesions.setHorizontalHeaderLabels(["lesion", "ml", "confidence", "probability"])
        self.lesions.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.lesions.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.lesions.itemSelectionChanged.connect(self.fly)
        scrolled(
            self,
            self.folders,
            self.visits,
            group("Maps", self.choices),
            group("At least this probable", self.threshold, self.contours, self.sizes),
            group("Volume by member", self.structure, self.plot),
            group("Lesions: choose one to go there", self.lesions),
            below=self.work,
        )

    # -- opening ----------------------------------------------------------------------------------

    def show_folder(self, out: Path, data: Path | None = None, who: str | None = None) -> None:
        """Open a folder, as if somebody named it.

        Args:
            out: what `vol3d segment` wrote.
            data: the dataset that was segmented.
            who: the visit to begin with, sub-X or sub-X_ses-Y.
        """
        self.wanted = who
        for name, path in (("out", out), ("data", data)):
            self.folders.set(name, str(path) if path else None)
        self.open()

    def follow(self, who: str) -> None:
        """Somebody else is looked at: show their visit, or, where there is none, nothing."""
        if not self.sidecars:  # the folder is still being read
            self.wanted = who
            return
        self.visits.blockSignals(True)
        self.visits.setCurrentIndex(self.visits.findText(who))  # -1 where there is none
        self.visits.blockSignals(False)
        self.clear()  # at once: what is there is of somebody else
        self.choose(who)

    def clear(self) -> None:
        """Show nothing; what is being read will not be shown either."""
        self.work.stop()
        for layer in self.added:
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self.visit, self.shown, self.maps, self.added = None, {}, {}, []
        self.lesions.setRowCount(0)
        self.structure.clear()
        self.plot.clear()
        self.empty_choices()
        self.sizes.setText("")

    def open(self) -> None:
        """A folder was named: list its visits, and show the first."""
        from vol3d.viewer.ensemble import visits_in

        if out := self.folders.values["out"]:
            self.work.start(lambda tell: visits_in(Path(out)), self.listed)

    def listed(self, sidecars: dict[str, Path]) -> None:
        """The visits are known."""
        now, wanted, self.wanted = self.visits.currentText(), self.wanted, None
        self.sidecars = sidecars
        self.visits.blockSignals(True)
        self.visits.clear()
        self.visits.addItems([*sidecars])
        self.visits.blockSignals(False)
        self.follow(wanted or (now if now in sidecars else next(iter(sidecars))))

    def choose(self, name: str) -> None:
        """A visit was chosen: read what is always shown."""
        if name not in self.sidecars:
            return
        data = self.folders.values["data"]

        def read(tell: Any) -> "SegmentedVisit":
            from vol3d.viewer.ensemble import SegmentedVisit

            return SegmentedVisit(self.sidecars[name], Path(data) if data else None).loaded()

        self.work.start(read, self.opened)

    def opened(self, visit: "SegmentedVisit") -> None:
        """A visit was read: show its image, contours, numbers and lesions."""
        theirs = [layer for layer in self.shown.values() if layer not in self.added]
        self.clear()
        self.visit, self.shown = visit, self.opened_already(visit)
        self.take_turns(theirs)
        self.fill_choices()
        for name in [*visit.images, THRESHOLD]:
            if name not in self.shown:
                self.maps[name].setChecked(True)
        if visit.lacking:
            self.work.message.setText(
                f"{', '.join(visit.lacking)}: not found; name the dataset that has it as data"
            )
        self.viewer.reset_view()
        self.structure.addItems(visit.structures)
        self.lesions.setRowCount(len(visit.lesions))
        for i, one in enumerate(visit.lesions):
            cells = (
                f"{one.structure} {one.number}",
                f"{one.volume_ml:.2f}",
                f"{one.confidence:.0%}",
                f"{one.mean_probability:.2f}",
            )
            for j, words in enumerate(cells):
                self.lesions.setItem(i, j, QTableWidgetItem(words))
        self.redraw()

    def take_turns(self, before: "list[Layer]") -> None:
        """Hide what others opened of the visit before, and show again what was hidden of this one."""
        now = [*self.shown.values()]
        for layer in self.hidden:
            layer.visible = layer in now or layer.visible
        away = [layer for layer in before if layer.visible and layer not in now]
        for layer in away:
            layer.visible = False
        self.hidden = [layer for layer in self.hidden if layer not in now] + away

    def opened_already(self, visit: "SegmentedVisit") -> "dict[str, Layer]":
        """Layers of the visit's maps that somebody has opened, by the map's name."""
        there = {
            original.path.absolute(): layer
            for layer in self.viewer.layers
            if (original := layer.metadata.get(OURS)) and original.path
        }
        files = {name: path.absolute() for name, path in visit.files.items()}
        return {name: there[path] for name, path in files.items() if path in there}

    def empty_choices(self) -> None:
        """Take the ticks away."""
        grid = self.choices.layout()
        while grid.count():
            grid.takeAt(0).widget().deleteLater()

    def fill_choices(self) -> None:
        """A tick for each map of the visit."""
        grid = self.choices.layout()
        for i, name in enumerate(self.makers()):
            tick = QCheckBox(name)
            tick.setChecked(name in self.shown and self.shown[name].visible)
            tick.toggled.connect(lambda on, name=name: self.toggle(name, on))
            grid.addWidget(tick, i // 2, i % 2)
            self.maps[name] = tick

    # -- maps -------------------------------------------------------------------------------------

    def makers(self) -> dict[str, Callable[[], LayerTuple]]:
        """What makes the layer of each map, by its name."""
        from vol3d.viewer.ensemble import CONSENSUS, UNCERTAINTY

        visit, names, files = self.visit, self.visit.names, self.visit.files
        made: dict[str, Callable[[], LayerTuple]] = {}
        for contrast, image in visit.images.items():
            made[contrast] = lambda n=contrast, v=image: image_layer(v, n, path=files[n])
        for structure in visit.structures:
            name = f"probability of {structure}"
            made[name] = lambda n=name, s=structure: probability_layer(
                visit.probability(s), n, path=files[n]
            )
        for which in UNCERTAINTY:
            made[which] = lambda n=which: uncertainty_layer(visit.uncertainty(n), n, files[n])
        for which in CONSENSUS:
            made[which] = lambda n=which: labels_layer(
                visit.labels(n), n, names=names, path=files[n]
            )
        if visit.members:
            made["members"] = lambda: labels_layer(
                visit.members, "members", names=names, path=files["members"]
            )
        for i, (rater, labels) in enumerate(visit.raters.items(), len(names)):
            own = {1: PALETTE[i % len(PALETTE)]} if labels.data.max() == 1 else None
            made[rater] = lambda n=rater, v=labels, c=own: labels_layer(
                v, n, colours=c, path=files[n]
            )
        made[THRESHOLD] = lambda: labels_layer(
            visit.above(self.threshold.value() / PERCENT), THRESHOLD, names=names
        )
        return made

    def toggle(self, name: str, on: bool) -> None:
        """Show a map, or hide it."""
        layer = self.shown.get(name)
        if layer is not None and layer in self.viewer.layers:
            layer.visible = on
        elif on:
            self.put(name, self.makers()[name]())
        if name == THRESHOLD:
            self.redraw()

    def put(self, name: str, layer: LayerTuple) -> None:
        """Add a layer of our own."""
        (self.shown[name],) = added = add(self.viewer, [layer])
        self.added += added

    def redraw(self, *_: Any) -> None:
        """The threshold moved: draw what has at least that probability, and say how large it is."""
        if self.visit is None:
            return
        level = self.threshold.value() / PERCENT
        labels = self.visit.above(level)
        if (layer := self.shown.get(THRESHOLD)) is not None and layer in self.viewer.layers:
            replaced(layer, labels)
            layer.contour = int(self.contours.isChecked())
        sizes = [f"{s} {self.visit.volume_ml(labels, s):.2f} ml" for s in self.visit.structures]
        self.sizes.setText(f"{level:.2f}: {', '.join(sizes)}")

    # -- numbers ----------------------------------------------------------------------------------

    def show_histogram(self, structure: str) -> None:
        """The volumes that members find of a structure."""
        if self.visit is not None and structure:
            self.plot.show_volumes(structure, self.visit.histogram(structure))

    def fly(self) -> None:
        """A lesion was chosen: slice through its centre, and bring that to the middle."""
        rows = {item.row() for item in self.lesions.selectedItems()}
        if not rows:
            return
        lesion = self.visit.lesions[min(rows)]
        layer = self.shown.get("lesion")
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.remove(layer)
        self.put("lesion", points_layer([lesion.centre_mm], "lesion", size_mm=12.0))
        go_to(self.viewer, lesion.centre_mm)


def uncertainty_layer(volume: "Volume", name: str, path: Path) -> LayerTuple:
    """A map of uncertainty, from 0 to the largest that there is."""
    limits = 0.0, float(volume.data.max()) or 1.0
    unit = "" if name == "variance" else "nats"
    look = {"limits": limits, "unit": unit, "colormap": "viridis"}
    return probability_layer(volume, name, path=path, **look)
