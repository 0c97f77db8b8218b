"""Work beside the window: one thing at a time, with a progress bar and a button that stops it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from vol3d.errors import Vol3dError
from vol3d.viewer.stopping import Latest, StoppedError, Teller

FINE = 1000
"""Steps of the bar."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be done.

    Attributes:
        function: works in a thread of its own; gets a `Teller`.
        done: gets the result, in the window's thread.
        shown: gets what can be shown before, likewise.
    """

    function: Callable[[Teller], Any]
    done: Callable[[Any], None]
    shown: Callable[[Any], None]


class Voice(QObject):
    """From the thread of the work to that of the window."""

    told = Signal(object)
    ended = Signal(object, object, object)


class Work(QWidget):
    """Runs tasks, the last one asked for first: what was begun before is stopped.

    A task that is stopped shows nothing more, and its `done` is not called.

    Attributes:
        task: what is at work; None at rest.
        message: the line under the bar.
    """

    def __init__(self) -> None:
        super().__init__()
        self.task: Task | None = None
        self.next: Task | None = None
        self.thread: threading.Thread | None = None
        self.teller, self.latest = Teller(lambda *_: None), Latest()
        self.bar, self.cancel, self.message = QProgressBar(), QPushButton("Cancel"), QLabel()
        self.bar.setRange(0, FINE)
        self.bar.setTextVisible(False)
        self.cancel.setEnabled(False)
        self.cancel.clicked.connect(self.stop)
        self.message.setWordWrap(True)
        self.message.setTextFormat(Qt.TextFormat.PlainText)
        column, row = QVBoxLayout(self), QHBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel)
        column.addLayout(row)
        column.addWidget(self.message)
        self.voice = Voice()
        self.voice.told.connect(self.hear)
        self.voice.ended.connect(self.end)

    @property
    def is_busy(self) -> bool:
        """Something is at work, or about to be."""
        return self.task is not None

    def start(
        self,
        function: Callable[[Teller], Any],
        done: Callable[[Any], None],
        shown: Callable[[Any], None] = lambda _: None,
    ) -> None:
        """Do this next; see `Task`."""
        task = Task(function, done, shown)
        if self.task is None:
            self.begin(task)
        else:
            self.next = task
            self.teller.stop()

    def begin(self, task: Task) -> None:
        """Start the thread of a task."""
        self.task, self.next = task, None
        latest = self.latest = Latest()

        def heard(*told: Any) -> None:
            if latest.put(*told):
                self.voice.told.emit(task)

        self.teller = Teller(heard)
        self.cancel.setEnabled(True)
        self.bar.setValue(0)
        self.thread = threading.Thread(target=self.run, args=(task, self.teller), daemon=True)
        self.thread.start()

    def run(self, task: Task, teller: Teller) -> None:
        """The thread of a task."""
        result, error = None, None
        try:
            result = task.function(teller)
            teller.check()
        except BaseException as caught:  # whatever it is, the window must hear that it has ended
            error = caught
        self.voice.ended.emit(task, result, error)

    def stop(self) -> None:
        """Stop what is at work; it ends when it next tells how far it is."""
        self.next = None
        self.teller.stop()

    def hear(self, task: Task) -> None:
        """How far it is."""
        if task is not self.task or self.teller.ends.is_set():
            return
        share, words, shown = self.latest.take()
        self.bar.setValue(round(FINE * share))
        self.message.setText(words)
        for one in shown:
            task.shown(one)

    def end(self, task: Task, result: Any, error: BaseException | None) -> None:
        """It has ended: well, stopped, or with a line that says why not."""
        is_stopped = self.teller.ends.is_set()
        self.task = None
        self.cancel.setEnabled(False)
        if self.next is not None:
            return self.begin(self.next)
        self.bar.setValue(0 if error or is_stopped else FINE)
        if is_stopped or isinstance(error, StoppedError):
            self.message.setText("stopped")
        elif error is None:
            self.message.setText("")
            task.done(result)
        elif isinstance(error, Vol3dError):
            self.message.setText(str(error))
        elif isinstance(error, OSError) and error.filename is not None:
            self.message.setText(f"{error.filename}: {error.strerror}")
        else:
            from napari.utils.notifications import notification_manager

            self.message.setText(f"{type(error).__name__}: {error}")
            notification_manager.receive_error(type(error), error, error.__traceback__)
        return None

    def wait(self, seconds: float = 10) -> None:
        """Stop, and wait until nothing is at work, before what it works on goes."""
        self.stop()
        if self.thread is not None:
            self.thread.join(seconds)

    def closeEvent(self, event: Any) -> None:  # noqa: N802 (Qt's name)
        """The window goes."""
        self.wait()
        super().closeEvent(event)
