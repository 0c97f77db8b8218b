"""How widgets stand below each other."""

from qtpy.QtCore import Qt
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


def scrolled(outer: QWidget, *widgets: QWidget, below: QWidget) -> QVBoxLayout:
    """Fill a dock widget: a column that scrolls, and below it what is always seen.

    Args:
        outer: the dock widget.
        widgets: of the column; what is added later comes below them.
        below: such as the progress bar.

    Returns:
        the column, for what is added later.
    """
    inside, scroll, whole = QWidget(), QScrollArea(), QVBoxLayout(outer)
    column = QVBoxLayout(inside)
    for widget in widgets:
        column.addWidget(widget)
    if widgets:
        column.addStretch(1)
    scroll.setWidgetResizable(True)
    scroll.setWidget(inside)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    outer.setMinimumWidth(WIDTH)
    whole.addWidget(scroll, 1)
    whole.addWidget(below)
    return column
