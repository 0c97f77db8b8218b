"""What is asked of a generator: a slider or a choice a covariate, with the training range marked."""

from collections.abc import Sequence

from qtpy.QtCore import QRect, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QLabel,
    QSlider,
    QWidget,
)

from vol3d.data.covariate_types import Row
from vol3d.viewer.covariate_inputs import Levels, Scale

FINE = 1000
"""Steps of a slider."""
SEEN, BEYOND = QColor("#3fa34d"), QColor("#d08a2c")
"""Of the training range, and of what lies beyond."""
ANY = "any"


class MarkedSlider(QSlider):
    """A slider whose training range is underlined."""

    def __init__(self, scale: Scale) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.scale = scale
        self.setRange(0, FINE)
        self.setMinimumHeight(24)

    @property
    def marked(self) -> tuple[int, int]:
        """Where the underlined range begins and ends, in the slider's steps."""
        return self.step_of(self.scale.low), self.step_of(self.scale.high)

    def step_of(self, value: float) -> int:
        """Where a value is."""
        s = self.scale
        return round(FINE * (value - s.least) / (s.most - s.least))

    def value_of(self, step: int) -> float:
        """The value at a step."""
        s = self.scale
        return s.least + step / FINE * (s.most - s.least)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 (Qt's name)
        """The slider, and a line below it."""
        super().paintEvent(event)
        painter, y = QPainter(self), self.height() - 4
        painter.fillRect(QRect(0, y, self.width(), 3), BEYOND)
        left, right = (round(self.width() * step / FINE) for step in self.marked)
        painter.fillRect(QRect(left, y, right - left, 3), SEEN)
        painter.end()


class CovariateSliders(QWidget):
    """All covariates of a model; what is not ticked is not asked for."""

    changed = Signal()

    def __init__(self, inputs: Sequence[Scale | Levels]) -> None:
        super().__init__()
        self.lines: dict[str, NumberLine | LevelLine] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(1, 1)
        for i, one in enumerate(inputs):
            line = NumberLine(one) if isinstance(one, Scale) else LevelLine(one)
            for column, widget in enumerate(line.widgets):
                last = 2 if len(line.widgets) == 2 and column == 1 else 1
                grid.addWidget(widget, i, column, 1, last)
            line.tell = self.changed.emit
            self.lines[one.name] = line
        self.doubt = QLabel()
        self.doubt.setWordWrap(True)
        self.doubt.setStyleSheet(f"color: {BEYOND.name()}")
        self.doubt.setVisible(False)
        grid.addWidget(self.doubt, len(inputs), 0, 1, 3)

    @property
    def asked(self) -> Row:
        """What is asked for."""
        found = {name: line.asked for name, line in self.lines.items()}
        return {name: value for name, value in found.items() if value is not None}

    def show_row(self, row: Row) -> None:
        """Show what was drawn where nothing was asked for."""
        for name, line in self.lines.items():
            if row.get(name) is not None:
                line.show_drawn(row[name])

    def warn(self, doubts: Sequence[str]) -> None:
        """Say what lies outside the training range."""
        self.doubt.setText("; ".join(doubts))
        self.doubt.setVisible(bool(doubts))


class NumberLine:
    """A tick, a slider and a box for one number."""

    def __init__(self, scale: Scale) -> None:
        self.tick = QCheckBox(scale.name)
        self.tick.setToolTip(
            "<qt>Ask for this value. Otherwise it is drawn, given the others.</qt>"
        )
        self.slider, self.box = MarkedSlider(scale), QDoubleSpinBox()
        seen = f"Seen in training: {scale.low:g} to {scale.high:g} {scale.unit}"
        self.slider.setToolTip(seen)
        self.box.setRange(scale.least, scale.most)
        self.box.setDecimals(1)
        self.box.setSuffix(f" {scale.unit}" if scale.unit else "")
        self.box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        self.widgets = [self.tick, self.slider, self.box]
        self.tell = lambda: None
        self.quiet(scale.usual)
        self.tick.toggled.connect(lambda _: self.tell())
        self.slider.valueChanged.connect(lambda step: self.moved(self.slider.value_of(step)))
        self.box.valueChanged.connect(self.moved)

    @property
    def asked(self) -> float | None:
        """The value, if it is asked for."""
        return self.box.value() if self.tick.isChecked() else None

    def moved(self, value: float) -> None:
        """Somebody moved the slider, or entered a number: then it is asked for."""
        self.quiet(value)
        self.tick.blockSignals(True)
        self.tick.setChecked(True)
        self.tick.blockSignals(False)
        self.tell()

    def show_drawn(self, value: float) -> None:
        """The value that was drawn, if none was asked for."""
        if not self.tick.isChecked():
            self.quiet(value)

    def quiet(self, value: float) -> None:
        """Show a value, and tell nobody."""
        for widget, shown in ((self.slider, self.slider.step_of(value)), (self.box, value)):
            widget.blockSignals(True)
            widget.setValue(shown)
            widget.blockSignals(False)


class LevelLine:
    """A choice of one category's levels."""

    def __init__(self, levels: Levels) -> None:
        self.box = QComboBox()
        self.box.addItems([ANY, *levels.levels])
        self.box.setToolTip("<qt>Which is asked for; of any, one is drawn, given the others.</qt>")
        self.widgets = [QLabel(levels.name), self.box]
        self.tell = lambda: None
        self.box.currentTextChanged.connect(lambda _: self.tell())

    @property
    def asked(self) -> str | None:
        """The level, if one is asked for."""
        return None if self.box.currentText() == ANY else self.box.currentText()

    def show_drawn(self, value: str) -> None:
        """The level that was drawn, if none was asked for."""
        self.box.setItemText(0, ANY)
        self.box.setToolTip(f"<qt>Drawn: {value}</qt>")
