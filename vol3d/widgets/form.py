"""A form from typed settings: a line a field, with its bounds, and its doc string as the hint."""

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QWidget,
)

from vol3d.widgets.fields import LARGEST, Field

LARGE = 1e9
"""What boxes for numbers without a bound end at."""


class Form(QWidget):
    """The settings of one group, or some of them.

    Attributes:
        entries: the entry of each field by its name.
    """

    changed = Signal()

    def __init__(self, fields: Sequence[Field]) -> None:
        super().__init__()
        self.lines = QFormLayout(self)
        self.lines.setContentsMargins(0, 0, 0, 0)
        self.entries: dict[str, Entry] = {}
        self.show_fields(fields)

    def show_fields(self, fields: Sequence[Field]) -> None:
        """Show these fields instead, with their defaults."""
        while self.lines.rowCount():
            self.lines.removeRow(0)
        self.entries = {}
        for field in fields:
            entry = Entry(field)
            entry.changed.connect(self.changed)
            self.lines.addRow(field.name.replace("_", " "), entry)
            self.lines.labelForField(entry).setToolTip(wrapped(field.words))
            self.entries[field.name] = entry

    @property
    def values(self) -> dict[str, Any]:
        """What is entered, by name; None where nothing is."""
        return {name: entry.value for name, entry in self.entries.items()}

    @property
    def given(self) -> dict[str, Any]:
        """What is entered and is not the default."""
        return {n: e.value for n, e in self.entries.items() if e.value != e.field.default}

    def set(self, name: str, value: Any) -> None:
        """Enter a value; None only where that is allowed."""
        self.entries[name].set(value)


class Entry(QWidget):
    """One line: what is entered, and before it a tick where it may be left open."""

    changed = Signal()

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field = field
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.box = self.make()
        self.box.setToolTip(wrapped(field.words))
        self.tick = None
        if field.optional and field.kind in ("whole", "number"):
            self.tick = QCheckBox()
            self.tick.toggled.connect(self.box.setEnabled)
            self.tick.toggled.connect(lambda _: self.changed.emit())
            self.box.setEnabled(False)
            row.addWidget(self.tick)
        row.addWidget(self.box, 1)
        for kind, choose in (("file", self.choose_file), ("folder", self.choose_folder)):
            if field.kind in ("path", kind):
                button = QPushButton(kind.capitalize())
                button.clicked.connect(choose)
                row.addWidget(button)
        self.set(field.default)

    def make(self) -> QWidget:
        """The Qt widget for the kind of field."""
        field = self.field
        if field.kind == "switch":
            box = QCheckBox()
            box.toggled.connect(lambda _: self.changed.emit())
        elif field.kind == "choice":
            box = QComboBox()
            box.addItems(field.choices)
            box.currentTextChanged.connect(lambda _: self.changed.emit())
        elif field.kind == "whole":
            box = QSpinBox()
            low = -LARGEST if field.low is None else int(field.low)
            box.setRange(low, LARGEST if field.high is None else int(field.high))
            box.valueChanged.connect(lambda _: self.changed.emit())
        elif field.kind == "number":
            box = QDoubleSpinBox()
            box.setDecimals(3)
            box.setSingleStep(0.1)
            box.setRange(
                -LARGE if field.low is None else field.low,
                LARGE if field.high is None else field.high,
            )
            box.valueChanged.connect(lambda _: self.changed.emit())
        else:
            box = QLineEdit()
            box.editingFinished.connect(self.changed)
        return box

    @property
    def value(self) -> Any:
        """What is entered; None where nothing is."""
        if self.tick is not None and not self.tick.isChecked():
            return None
        if isinstance(self.box, QCheckBox):
            return self.box.isChecked()
        if isinstance(self.box, QComboBox):
            return self.box.currentText()
        if isinstance(self.box, QLineEdit):
            return self.box.text().strip() or None
        return self.box.value()

    def set(self, value: Any) -> None:
        """Enter a value."""
        if self.tick is not None:
            self.tick.setChecked(value is not None)
        if isinstance(self.box, QCheckBox):
            self.box.setChecked(bool(value))
        elif isinstance(self.box, QComboBox):
            self.box.setCurrentText(str(value))
        elif isinstance(self.box, QLineEdit):
            self.box.setText("" if value is None else str(value))
        elif value is not None:
            self.box.setValue(value)

    def choose_file(self) -> None:
        """Ask for a file."""
        path, _ = QFileDialog.getOpenFileName(self, self.field.name)
        self.chosen(path)

    def choose_folder(self) -> None:
        """Ask for a folder."""
        self.chosen(QFileDialog.getExistingDirectory(self, self.field.name))

    def chosen(self, path: str) -> None:
        """Enter a path that was chosen; nothing where the dialog was left."""
        if path:
            self.set(path)
            self.changed.emit()


def wrapped(words: str) -> str:
    """A hint that Qt breaks into lines."""
    return f"<qt>{words}</qt>"
