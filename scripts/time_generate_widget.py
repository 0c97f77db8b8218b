"""How soon the Generate widget shows what a slider asks for, and how soon the window answers meanwhile.

python scripts/time_generate_widget.py   (on a display, or under xvfb-run -a)

Moves a slider of the widget with the model in the box, and prints the time to the first preview, to the
brain itself, and the longest time for which the window did not answer: how late a timer of 5 ms comes.
"""

import os
import statistics
import time
from collections.abc import Callable

import napari
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from vol3d.viewer.window import prepare
from vol3d.widgets.generate import GenerateWidget

MOVES = 8
EVERY_MS = 5


def until(is_so: Callable[[], bool]) -> None:
    """Let Qt work until something is so."""
    while not is_so():
        QApplication.processEvents()
        time.sleep(0.001)


def main() -> None:
    """Move the slider several times."""
    viewer = prepare(napari.Viewer(show=True))
    widget = GenerateWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Generate")
    until(lambda: bool(viewer.layers) and not widget.work.is_busy)
    line, layer = widget.sliders.lines["ventricles_ml"], viewer.layers[0]
    seen: list[float] = []
    layer.events.set_data.connect(lambda event: seen.append(time.monotonic()))
    ticks: list[float] = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start(EVERY_MS)
    firsts, wholes, gaps = [], [], []
    for i in range(MOVES):
        seen.clear()
        ticks.clear()
        began = time.monotonic()
        line.slider.setValue(300 + 50 * i)
        until(lambda: not widget.work.is_busy)
        firsts.append(seen[0] - began)
        wholes.append(time.monotonic() - began)
        both = zip([began, *ticks], ticks, strict=False)
        gaps.append(max(after - before for before, after in both) - EVERY_MS / 1000)
    for words, found in (
        ("first preview", firsts),
        ("brain", wholes),
        ("longest without an answer", gaps),
    ):
        print(f"{words}: median {statistics.median(found):.3f} s, worst {max(found):.3f} s")
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    viewer.close()


main()
