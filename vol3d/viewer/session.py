"""A session with napari: a window with the layers of some paths, which stays open or is pictured."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vol3d.io.files import whole
from vol3d.viewer.beside import add_widgets
from vol3d.viewer.folders import kind_of
from vol3d.viewer.gathered import gather
from vol3d.viewer.layers import LayerTuple
from vol3d.viewer.together import check_place
from vol3d.viewer.window import Plane, add, go_to, insert, prepare, settle, show_plane

if TYPE_CHECKING:
    from napari import Viewer

WINDOW = (1280, 860)
"""Pixels, across and down."""


class Session:
    """A window of napari with what some paths are; the picture comes first.

    Napari takes its time for each layer, seen or not, and widgets have much to load: what is seen is
    added and drawn before `complete` adds the rest.

    Args:
        paths: see `gathered.gather`.
        who: whose, of folders with several people.
        plane: which is shown.
        at: x, y, z in mm that slices go through; see `together.start_of` without it.

    Attributes:
        viewer: the window.
        kinds: what is at each path.
        layers: of all paths, in order, the uppermost last.
        plane: that is shown at first.
        at: where; None where `start_of` says.
        widgets: those of `complete` that work beside the window.

    Raises:
        DataError: a file is damaged, or there is nothing to show.
        ConfigError: there is no such path or person, or nothing is shown at `at`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        who: str | None = None,
        plane: Plane = "axial",
        at: Sequence[float] | None = None,
    ) -> None:
        self.kinds = {path: kind_of(path) for path in paths}  # what is not there is said at once
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(gather, paths, who)  # while napari loads
            import napari

            self.layers = reading.result()
        if at is not None:
            check_place(self.layers, at)
        title = ", ".join(path.name for path in paths)
        self.viewer = prepare(napari.Viewer(title=title, show=True))
        self.viewer.window._qt_window.resize(*WINDOW)
        add(self.viewer, [layer for layer in self.layers if is_seen(layer)])
        self.plane, self.at = plane, at
        if self.viewer.layers:
            self.turn()
        else:  # what a widget draws first is shown so
            self.viewer.layers.events.inserted.connect(self.turn_soon)
        settle()
        self.widgets: list = []

    def turn(self) -> None:
        """Show the plane, and the place, that were asked for."""
        show_plane(self.viewer, self.plane)
        if self.at is not None:
            go_to(self.viewer, self.at, centred=False)

    def turn_soon(self, event: Any) -> None:
        """The first layer that has planes arrives: turn once it is shown."""
        from qtpy.QtCore import QTimer

        if event.value.ndim >= 3:
            self.viewer.layers.events.inserted.disconnect(self.turn_soon)
            QTimer.singleShot(0, self.turn)

    def complete(self) -> None:
        """Add the layers that are not seen, and beside the picture the widgets that go with the paths."""
        insert(self.viewer, {i: one for i, one in enumerate(self.layers) if not is_seen(one)})
        self.widgets = add_widgets(self.viewer, self.kinds)
        settle()  # the picture is smaller now
        self.viewer.reset_view()

    def wait(self) -> None:
        """Let the widgets end what they are at, such as reading."""
        while any(widget.work.is_busy for widget in self.widgets):
            settle(1)
            time.sleep(0.01)


def is_seen(layer: LayerTuple) -> bool:
    """Whether a layer is seen at first."""
    return layer[1].get("visible", True)


def picture(viewer: "Viewer", file: Path, *, window: bool) -> None:
    """Write what is seen as PNG, whole or not at all.

    Args:
        viewer: that is shown on a display.
        file: ends in .png.
        window: all of the window, not the canvas alone.
    """
    settle()
    with whole(file) as part:
        viewer.screenshot(str(part), canvas_only=not window, flash=False)
