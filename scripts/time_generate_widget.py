"""How soon the Generate widget shows what a slider asks for, and how soon the window answers meanwhile.

python scripts/time_generate_widget.py   (on a display, or under xvfb-run -a)

Moves a slider of the widget with the model in the box, and prints the time to the first preview, to the
brain itself, and the longest time for which the window did not answer: how late a timer of 5 ms comes.
Beside each stand the seconds of the processor, which other work on the machine does not change: of all
threads, and for the last of the window's thread.
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

MOVES = 5
EVERY_MS = 5


class Moment:
    """Now, in seconds: on the clock, and of the processor by all threads and by the window's."""

    def __init__(self) -> None:
        self.wall, self.process = time.monotonic(), time.process_time()
        self.thread = time.thread_time()


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
    seen: list[Moment] = []
    layer.events.set_data.connect(lambda event: seen.append(Moment()))
    ticks: list[Moment] = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(Moment()))
    timer.start(EVERY_MS)
    firsts, wholes, gaps = [], [], []
    for i in range(MOVES):
        seen.clear()
        ticks.clear()
        began = Moment()
        line.slider.setValue(300 + 50 * i)
        until(lambda: not widget.work.is_busy)
        firsts.append((seen[0].wall - began.wall, seen[0].process - began.process))
        wholes.append((seen[-1].wall - began.wall, seen[-1].process - began.process))
        both = [*zip([began, *ticks], ticks, strict=False)]
        late = max(after.wall - before.wall for before, after in both) - EVERY_MS / 1000
        gaps.append((late, max(after.thread - before.thread for before, after in both)))
    for words, found in (
        ("first preview", firsts),
        ("brain", wholes),
        ("longest without an answer", gaps),
    ):
        wall, cpu = (sorted(column) for column in zip(*found, strict=True))
        told = [f"{statistics.median(x):.3f} s, worst {x[-1]:.3f} s" for x in (wall, cpu)]
        print(f"{words}: median {told[0]}; of the processor {told[1]}")
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    viewer.close()


main()
