"""A line below the picture: the place under the cursor in mm, and what each layer has there."""

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from vol3d.viewer.cursor import told

if TYPE_CHECKING:
    from napari import Viewer

LINES = 3
"""Of text, at most."""


class CursorWidget(QWidget):
    """Follows the cursor in 2-D; in 3-D a place on the screen is no place in the head."""

    def __init__(self, napari_viewer: "Viewer") -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.setMaximumHeight(LINES * self.label.fontMetrics().lineSpacing())
        self.setLayout(QVBoxLayout())
        self.layout().setContentsMargins(6, 2, 6, 2)
        self.layout().addWidget(self.label)
        events = (
            napari_viewer.cursor.events.position,
            napari_viewer.dims.events.current_step,
            napari_viewer.dims.events.ndisplay,
            napari_viewer.layers.events.inserted,
            napari_viewer.layers.events.removed,
        )
        for event in events:
            event.connect(self.tell)
        self.tell()

    def tell(self, event: object = None) -> None:
        """Say what is there."""
        if self.viewer.dims.ndisplay == 3:
            self.label.setText("Places and values are told in 2-D.")
            return
        self.label.setText(told(self.viewer.layers, self.viewer.cursor.position))
