"""A window of napari on a real display, for tests marked viewer."""

import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from napari import Viewer

WINDOW = (800, 620)


def lacking() -> str | None:
    """What is missing to open a window here; None where nothing is."""
    if not any(find_spec(qt) for qt in ("PyQt6", "PySide6")):
        return "Qt is not installed: pip install -e '.[test,viewer]' (make test-viewer does)"
    if not os.environ.get("DISPLAY"):
        hint = "" if shutil.which("xvfb-run") else " (apt-get install xvfb xauth)"
        return f"no display: xvfb-run -a python -m pytest -m viewer{hint}, or make test-viewer"
    return None


@pytest.fixture
def viewer() -> "Iterator[Viewer]":
    """A window that is closed after the test; see `settle` and `picture`."""
    if line := lacking():
        demanded = os.environ.get("CI") == "true" or os.environ.get("VOL3D_VIEWER") == "1"
        (pytest.fail if demanded else pytest.skip)(line)
    import napari

    from vol3d.viewer.window import prepare

    window = prepare(napari.Viewer(show=True))
    window.window.resize(*WINDOW)  # small: all is drawn by the CPU
    settle()
    yield window
    window.close()
    settle()


def settle(times: int = 5) -> None:
    """Let Qt do what it has to do, such as draw."""
    from qtpy.QtWidgets import QApplication

    for _ in range(times):
        QApplication.processEvents()


def until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    """Let Qt work until something is so; the test fails where it does not come to be."""
    import time

    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"still not so after {seconds} s"
        settle(1)
        time.sleep(0.01)


def picture(viewer: "Viewer", least: float = 5) -> np.ndarray:
    """[rows, columns, 3] what the canvas shows; never all of one colour, as an unseen window's is.

    `least` is the standard deviation that it has, where little is to be seen on it.
    """
    settle()
    shown = viewer.screenshot(flash=False)[..., :3]
    assert shown.std() > least, "the canvas is empty"
    return shown
