"""The people of a cohort as a table beside the viewer: filter, sort, click to load."""

from pathlib import Path
from typing import TYPE_CHECKING

from napari.qt.threading import create_worker
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from vol3d.errors import Vol3dError
from vol3d.viewer.cohort import Cohort, shown
from vol3d.viewer.layers import LayerTuple
from vol3d.viewer.window import add, go_to, place_of

if TYPE_CHECKING:
    from napari import Viewer

FLAGGED = QColor("#cc7722")
FILTER = "age>60 sex=F, or a word"


class CohortTable(QAbstractTableModel):
    """The chosen rows of a cohort, as Qt asks for them: only what is on the screen."""

    def __init__(self, cohort: Cohort) -> None:
        super().__init__()
        self.cohort = cohort

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """How many rows are chosen."""
        return len(self.cohort.shown)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """How many columns the table has."""
        return len(self.cohort.columns)

    def data(self, index: QModelIndex, role: int = Qt.DisplayRole) -> object:
        """What is shown in a cell, and its colour."""
        row = self.cohort.shown[index.row()]
        value = self.cohort.rows[row][self.cohort.columns[index.column()]]
        if role == Qt.DisplayRole:
            return shown(value)
        if role == Qt.TextAlignmentRole and isinstance(value, float):
            return int(Qt.AlignRight | Qt.AlignVCenter)
        if role == Qt.ForegroundRole and self.cohort.is_flagged(row):
            return FLAGGED
        return None

    def headerData(  # noqa: N802
        self, section: int, orientation: Qt.Orientation, role: int = Qt.DisplayRole
    ) -> object:
        """The names of the columns."""
        if role != Qt.DisplayRole:
            return None
        is_column = orientation == Qt.Horizontal
        return self.cohort.columns[section] if is_column else section + 1

    def sort(self, column: int, order: Qt.SortOrder = Qt.AscendingOrder) -> None:
        """Order the rows by a column; Qt asks for -1 where none is chosen."""
        if column < 0:
            return
        self.layoutAboutToBeChanged.emit()
        self.cohort.sort(self.cohort.columns[column], descending=order == Qt.DescendingOrder)
        self.layoutChanged.emit()


class CohortWidget(QWidget):
    """A cohort beside the viewer.

    Attributes:
        cohort: the one that is open; None at first.
        loaded: the layers of whom was clicked last; another's take their place, so memory does not grow.
        shows: tells who is shown from now on, sub-X or sub-X_ses-Y.
    """

    shows = Signal(str)

    def __init__(self, napari_viewer: "Viewer") -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.cohort: Cohort | None = None
        self.loaded: list = []
        self.worker = None
        self.wanted: tuple[Cohort, int] | None = None
        self.opening = QPushButton("Open cohort...")
        self.filter = QLineEdit()
        self.filter.setPlaceholderText(FILTER)
        self.keep = QCheckBox("keep those loaded")
        self.flags = QCheckBox("flagged only")
        self.table = QTableView()
        self.table.setSelectionBehavior(QAbstractItemView.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SingleSelection)
        self.table.verticalHeader().setSectionResizeMode(QHeaderView.Fixed)
        self.table.setSortingEnabled(True)
        self.line = QLabel("A BIDS folder with participants.tsv, or the folder of vol3d evaluate.")
        self.line.setWordWrap(True)
        above = QHBoxLayout()
        for part in (self.opening, self.keep, self.flags):
            above.addWidget(part)
        self.setLayout(QVBoxLayout())
        self.layout().addLayout(above)
        for part in (self.filter, self.table, self.line):
            self.layout().addWidget(part)
        self.opening.clicked.connect(self.ask)
        self.filter.textChanged.connect(self.choose)
        self.flags.toggled.connect(self.choose)
        self.flags.setVisible(False)

    def ask(self) -> None:
        """Let a folder be chosen, and open it."""
        if folder := QFileDialog.getExistingDirectory(self, "A cohort"):
            self.open(Path(folder))

    def open(self, folder: Path) -> None:
        """Show the table of a cohort; what is amiss with it is told below."""
        try:
            self.cohort = Cohort.open(Path(folder))
        except Vol3dError as error:
            self.line.setText(str(error))
            return
        self.wanted = None
        self.filter.clear()
        self.table.setModel(CohortTable(self.cohort))
        self.table.horizontalHeader().setSortIndicator(-1, Qt.AscendingOrder)
        self.table.selectionModel().currentRowChanged.connect(self.clicked)
        self.flags.setVisible(self.cohort.evaluated is not None)
        self.tell()

    def choose(self, *_: object) -> None:
        """Show the rows that meet the conditions, once they can be read."""
        if self.cohort is None:
            return
        table = self.table.model()
        table.beginResetModel()
        try:
            self.cohort.choose(self.filter.text())
            problem = None
        except Vol3dError as error:
            problem = str(error)
        if self.flags.isChecked():
            self.cohort.shown = [i for i in self.cohort.shown if self.cohort.is_flagged(i)]
        header = self.table.horizontalHeader()
        if header.sortIndicatorSection() >= 0:
            table.sort(header.sortIndicatorSection(), header.sortIndicatorOrder())
        table.endResetModel()
        self.tell(problem)

    def tell(self, problem: str | None = None) -> None:
        """What is open, how much of it is shown, and what its evaluation found."""
        one = self.cohort
        words = [f"{one.folder.name}: {len(one.shown)} of {len(one.rows)} rows"]
        if one.evaluated:
            flagged = sum(map(one.is_flagged, range(len(one.rows))))
            words.append(
                f"{flagged} flagged: a volume is off by more than the segmenter's own error"
            )
            words += one.evaluated.amiss
        self.line.setText(problem or "\n".join(words))

    def clicked(self, current: QModelIndex, previous: QModelIndex | None = None) -> None:
        """Load who was clicked; while somebody is being read, the last one clicked waits."""
        if current.isValid():
            self.load(self.cohort.shown[current.row()])

    def load(self, row: int) -> None:
        """Read a row's images in a thread, and show them."""
        self.wanted = (self.cohort, row)
        if self.worker is None:
            self.read(self.wanted)

    def read(self, wanted: tuple[Cohort, int]) -> None:
        """Begin to read somebody."""
        self.worker = create_worker(opened, *wanted)
        self.worker.returned.connect(lambda layers: self.arrived(wanted, layers))
        self.worker.finished.connect(lambda: self.go_on(wanted))
        self.worker.start()

    def arrived(self, read: tuple[Cohort, int], layers: list[LayerTuple] | str) -> None:
        """Show who was read, unless another cohort was opened meanwhile."""
        if read[0] is self.cohort:
            self.show_layers(layers)
            self.shows.emit(self.cohort.who(read[1]))

    def go_on(self, read: tuple[Cohort, int]) -> None:
        """Read who was clicked meanwhile."""
        self.worker = None
        if self.wanted is not None and self.wanted != read:
            self.read(self.wanted)

    def show_layers(self, layers: list[LayerTuple] | str) -> None:
        """Show somebody in place of who was there, at the same place in the head; or what is amiss."""
        if isinstance(layers, str):
            self.line.setText(layers)
            return
        place = place_of(self.viewer) if self.loaded else None
        if not self.keep.isChecked():
            for layer in self.loaded:
                if layer in self.viewer.layers:
                    self.viewer.layers.remove(layer)
        self.loaded = add(self.viewer, layers)
        if place is not None:
            go_to(self.viewer, place, centred=False)


def opened(cohort: Cohort, row: int) -> list[LayerTuple] | str:
    """Somebody's layers, or what is amiss: Qt ends the program where a thread raises an error."""
    try:
        return cohort.layers(row)
    except Vol3dError as error:
        return str(error)
