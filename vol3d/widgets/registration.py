"""Registration: moving on fixed, where points go and where space folds, all along the way."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QSlider,
    QWidget,
)

from vol3d.viewer.layers import image_layer, replaced
from vol3d.viewer.window import add, place_of, upright
from vol3d.widgets.layout import group, scrolled
from vol3d.widgets.pair_form import PairForm
from vol3d.widgets.registration_layers import GRID, OVERLAYS, overlay
from vol3d.widgets.work import Work

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

    from vol3d.viewer.registered import PairFiles
    from vol3d.viewer.registration import GridLines, Registration, Step

PERCENT = 100
BLEND, CHECKERBOARD, SWIPE = "blend", "checkerboard", "swipe"


class RegistrationWidget(QWidget):
    """A registration at one place of its path.

    Attributes:
        source: the form of what is shown.
        registration: that is shown; None before.
        step: what is seen at the place of the path where the slider was when it was last computed.
        shown: layers by their names.
    """

    def __init__(self, napari_viewer: "Viewer") -> None:
        super().__init__()
        upright(napari_viewer)
        self.viewer, self.registration, self.step = napari_viewer, None, None
        self.shown: dict[str, Layer] = {}
        self.plane: tuple[int, float] | None = None
        self.work = Work()
        self.source = PairForm(self.work, self.read, self.clear)
        self.mode, self.square = QComboBox(), QDoubleSpinBox()
        self.mode.addItems([BLEND, CHECKERBOARD, SWIPE])
        self.share, self.path = slider(PERCENT // 2), slider(PERCENT)
        self.square.setRange(1, 200)
        self.square.setValue(24)
        self.square.setSuffix(" mm")
        self.mode.currentTextChanged.connect(self.compare)
        self.share.valueChanged.connect(self.compare)
        self.square.valueChanged.connect(self.compare)
        self.path.valueChanged.connect(self.follow)
        both, lines = QWidget(), QFormLayout()
        both.setLayout(lines)
        for words, widget in (("as", self.mode), ("moved", self.share), ("squares", self.square)):
            lines.addRow(words, widget)
        self.overlays = {name: QCheckBox(name) for name in OVERLAYS}
        for name, tick in self.overlays.items():
            tick.toggled.connect(lambda on, name=name: self.toggle(name, on))
        self.lines_mm = QDoubleSpinBox()
        self.lines_mm.setRange(1, 100)
        self.lines_mm.setValue(8)
        self.lines_mm.setPrefix("lines every ")
        self.lines_mm.setSuffix(" mm")
        self.lines_mm.valueChanged.connect(self.redraw_grid)
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.viewer.dims.events.point.connect(self.moved_plane)
        self.viewer.dims.events.order.connect(self.moved_plane)
        scrolled(
            self,
            self.source,
            group("Both images", both),
            group("The transform", *self.overlays.values(), self.lines_mm),
            group("Path: from nothing to the whole", self.path, self.summary),
            below=self.work,
        )

    # -- opening ----------------------------------------------------------------------------------

    def show_folder(self, out: Path, data: Path | None = None, who: str | None = None) -> None:
        """Open a folder of `vol3d register`; see `PairForm.show_folder`."""
        self.source.show_folder(out, data, who)

    def read(self, pair: "PairFiles") -> None:
        """Read a registration beside the window."""

        def read(tell: Any) -> "tuple[Registration, Step]":
            from vol3d.viewer.registration import Registration

            files = pair.fixed, pair.moving, pair.transform, pair.registered
            registration = Registration.read(*files)
            tell(0.5, "moving the image")
            return registration, registration.step(1.0)

        self.work.start(read, lambda found: self.show(*found))

    def clear(self) -> None:
        """Show nothing."""
        for name in [*self.shown]:
            self.remove(name)
        self.registration, self.step = None, None
        self.path.setEnabled(False)
        self.summary.setText("")

    def show(self, registration: "Registration", step: "Step") -> None:
        """Show a registration that was read, or made by somebody else."""
        self.clear()
        for layer in self.viewer.layers:  # the two images are added up: below them is black
            layer.visible = False
        self.registration, self.step = registration, step
        self.path.blockSignals(True)
        self.path.setValue(round(PERCENT * step.t))
        self.path.blockSignals(False)
        self.path.setEnabled(registration.moving is not None)
        for name, volume, colour in (
            ("fixed", registration.fixed, "green"),
            ("moved", step.moved, "magenta"),  # together they are grey where both are the same
        ):
            self.put(name, image_layer(volume, name, colormap=colour, blending="additive"))
        self.put("compared", image_layer(registration.fixed, "compared", limits=(0.0, 1.0)))
        self.viewer.reset_view()
        self.came(step)

    def put(self, name: str, layer: Any) -> None:
        """Add a layer, in the place of one that has its name."""
        self.remove(name)
        (self.shown[name],) = add(self.viewer, [layer])

    def remove(self, name: str) -> None:
        """Take a layer out, if it is there."""
        layer = self.shown.pop(name, None)
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.remove(layer)

    def there(self, name: str) -> "Layer | None":
        """A layer, if nobody has taken it out."""
        layer = self.shown.get(name)
        return layer if layer is not None and layer in self.viewer.layers else None

    # -- the path ---------------------------------------------------------------------------------

    def follow(self, percent: int) -> None:
        """The slider of the path moved."""
        registration, t = self.registration, percent / PERCENT
        if registration is not None:
            self.work.start(lambda tell: registration.step(t), self.came)

    def came(self, step: "Step") -> None:
        """What is seen at a place of the path was computed: show it everywhere."""
        self.step = step
        if layer := self.there("moved"):
            replaced(layer, step.moved)
        self.compare()
        for name in OVERLAYS:  # from the bottom to the top
            if self.overlays[name].isChecked():
                self.put_overlay(name)
        way = "flow" if self.registration.flow else "displacement"
        words = [f"{step.t:.2f} of the {way}: {step.summary()}"]
        if self.registration.moving is None:
            words.append(f"{self.source.lacking}; the end of the path is all there is")
        self.summary.setText("\n".join(words))

    # -- both images ------------------------------------------------------------------------------

    def compare(self, *_: Any) -> None:
        """Show both images as the controls say."""
        if self.registration is None:
            return
        from vol3d.viewer.registration import checkerboard, swipe

        mode, share = self.mode.currentText(), self.share.value() / PERCENT
        self.square.setEnabled(mode == CHECKERBOARD)
        self.share.setEnabled(mode != CHECKERBOARD)
        for name, seen in (("fixed", BLEND), ("moved", BLEND), ("compared", None)):
            if layer := self.there(name):
                layer.visible = (mode == BLEND) is (seen == BLEND)
        if mode == BLEND:
            for name, opacity in (("fixed", 1 - share), ("moved", share)):
                if layer := self.there(name):
                    layer.opacity = min(1.0, 2 * opacity)
            return
        fixed, moved = self.registration.fixed, self.step.moved
        if layer := self.there("compared"):
            one = (
                swipe(fixed, moved, share)
                if mode == SWIPE
                else checkerboard(fixed, moved, self.square.value())
            )
            replaced(layer, one)

    # -- the transform ----------------------------------------------------------------------------

    def toggle(self, name: str, on: bool) -> None:
        """Show something of the transform, or hide it."""
        if self.registration is None:
            return
        if on:
            for each in OVERLAYS[OVERLAYS.index(name) :]:  # what is to lie above it, once more
                if self.overlays[each].isChecked():
                    self.put_overlay(each)
        else:
            self.remove(name)

    def put_overlay(self, name: str) -> None:
        """Show something of the transform at this place of the path."""
        lines = self.grid_lines() if name == GRID else None
        self.put(name, overlay(name, self.step, lines))

    def moved_plane(self, event: Any = None) -> None:
        """Another slice is seen: the warped grid is drawn in it."""
        if self.there(GRID) and self.plane != self.seen_plane():
            self.redraw_grid()

    def redraw_grid(self, *_: Any) -> None:
        """Draw the warped grid anew."""
        if self.there(GRID):
            data, settings, _ = overlay(GRID, self.step, self.grid_lines())
            layer = self.shown[GRID]
            layer.data, layer.affine = data, settings["affine"]

    def seen_plane(self) -> tuple[int, float]:
        """The axis of the world, 0 to 2, across the plane that is seen, and where it is in mm."""
        axis = 2 - (self.viewer.dims.order[-3] - (self.viewer.dims.ndim - 3))
        return axis, float(place_of(self.viewer)[axis])

    def grid_lines(self) -> "GridLines":
        """The warped grid in the plane that is seen."""
        self.plane = self.seen_plane()
        return self.step.grid_lines(*self.plane, self.lines_mm.value())

    def closeEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        """The widget goes."""
        self.work.wait()
        super().closeEvent(event)


def slider(value: int) -> QSlider:
    """From 0 to 100 percent."""
    found = QSlider(Qt.Orientation.Horizontal)
    found.setRange(0, PERCENT)
    found.setValue(value)
    return found
