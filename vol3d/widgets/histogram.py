"""A histogram of volumes in ml, with the interval that holds most members."""

from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import QWidget

if TYPE_CHECKING:
    from vol3d.viewer.ensemble import Histogram

BAR, INTERVAL, PROMISED, INK = (QColor(c) for c in ("#5b8fd9", "#f2c14e", "#e4572e", "#c8c8c8"))
EDGE, FOOT, HEAD = 8, 22, 38
"""Pixels left free at the sides, below and above the bars."""


class HistogramPlot(QWidget):
    """Drawn by Qt itself.

    Attributes:
        histogram: that is shown; None before.
        words: the line above it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.histogram: Histogram | None = None
        self.words = ""
        self.setMinimumHeight(158)

    def show_volumes(self, structure: str, histogram: "Histogram") -> None:
        """Show the volumes of a structure."""
        h = self.histogram = histogram
        self.words = (
            f"{structure}: {h.mean:.2f} ml, {h.share:.0%} of members {h.low:.2f} to {h.high:.2f}"
        )
        if h.conformal:
            self.words += f"; calibrated {h.conformal[0]:.2f} to {h.conformal[1]:.2f}"
        self.setToolTip(self.words)
        self.update()

    def clear(self) -> None:
        """Show nothing."""
        self.histogram, self.words = None, ""
        self.setToolTip("")
        self.update()

    @property
    def ends(self) -> tuple[float, float]:
        """The volumes at the left and the right end, ml."""
        h = self.histogram
        low, high = float(h.edges[0]), float(h.edges[-1])
        if h.conformal:
            low, high = min(low, h.conformal[0]), max(high, h.conformal[1])
        return low, high

    def x_of(self, ml: float) -> float:
        """Where a volume is, in pixels."""
        low, high = self.ends
        return EDGE + (ml - low) / (high - low) * (self.width() - 2 * EDGE)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 (Qt's name)
        """Bars, the intervals below them, and the ends in ml."""
        if self.histogram is None:
            return
        h, painter = self.histogram, QPainter(self)
        bottom = self.height() - FOOT
        tall = (bottom - HEAD) / max(int(h.counts.max()), 1)
        for left, right, count in zip(h.edges[:-1], h.edges[1:], h.counts, strict=True):
            x, width = self.x_of(left), self.x_of(right) - self.x_of(left) - 1
            painter.fillRect(QRectF(x, bottom - tall * count, width, tall * count), BAR)
        for ends, colour, y in (((h.low, h.high), INTERVAL, 2), (h.conformal, PROMISED, 6)):
            if ends:
                x = self.x_of(ends[0])
                width = max(self.x_of(ends[1]) - x, 2.0)
                painter.fillRect(QRectF(x, bottom + y, width, 3), colour)
        painter.setPen(INK)
        head = QRectF(EDGE, 0, self.width() - 2 * EDGE, HEAD - 6)
        below = Qt.AlignmentFlag.AlignBottom.value | Qt.TextFlag.TextWordWrap.value
        painter.drawText(head, below, self.words)
        low, high = self.ends
        foot = QRectF(EDGE, bottom + 8, self.width() - 2 * EDGE, FOOT - 8)
        painter.drawText(foot, Qt.AlignmentFlag.AlignLeft, f"{low:.2f} ml")
        painter.drawText(foot, Qt.AlignmentFlag.AlignRight, f"{high:.2f} ml")
        painter.end()
