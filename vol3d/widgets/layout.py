"""How widgets stand below each other."""

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QGroupBox, QScrollArea, QVBoxLayout, QWidget

WIDTH = 400
"""Of a dock widget, in pixels: less would cut sliders and tables."""


def group(title: str, *widgets: QWidget) -> QGroupBox:
    """Widgets under a title."""
    box = QGroupBox(title)
    column = QVBoxLayout(box)
    for widget in widgets:
        column.addWidget(widget)
    return box


class Column(QScrollArea):
    """Scrolls up and down, and is never narrower than what it holds."""

    def __init__(self, inside: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(inside)
        inside.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's name)
        """What it holds may have become wider, such as by longer names."""
        if watched is self.widget() and event.type() == QEvent.Type.LayoutRequest:
            bar = self.verticalScrollBar().sizeHint().width()
            self.setMinimumWidth(self.widget().minimumSizeHint().width() + bar)
        return super().eventFilter(watched, event)


def scrolled(outer: QWidget, *widgets: QWidget, below: QWidget) -> QVBoxLayout:
    """Fill a dock widget: a column that scrolls, and below it what is always seen.

    Args:
        outer: the dock widget.
        widgets: of the column; what is added later comes below them.
        below: such as the progress bar.

    Returns:
        the column, for what is added later.
    """
    inside, whole = QWidget(), QVBoxLayout(outer)
    column = QVBoxLayout(inside)
    for widget in widgets:
        column.addWidget(widget)
    if widgets:
        column.addStretch(1)
    outer.setMinimumWidth(WIDTH)
    whole.addWidget(Column(inside), 1)
    whole.addWidget(below)
    return column
