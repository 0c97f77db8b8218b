"""What every tracker is: a place that shows how runs go, beside the log in the run's own folder."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from vol3d.config import Config


class Tracker(Config, ABC):
    """See `vol3d.training.trackers`."""

    @abstractmethod
    def open(self, run: Path, settings: dict[str, Any], nimg: int) -> "Track":
        """Begin to track a run, or go on with it.

        Args:
            run: its folder.
            settings: all of them, nested.
            nimg: images seen so far; 0 for a new run.

        Raises:
            ConfigError: it cannot be tracked there.
        """

    def finish(self, run: Path, bundle: Path) -> None:
        """The run has finished, and this is its bundle; may be told more than once."""


class Track(ABC):
    """A run that is being tracked."""

    @abstractmethod
    def numbers(self, nimg: int, values: dict[str, float]) -> None:
        """Measures at an image, by name."""

    @abstractmethod
    def picture(self, nimg: int, path: Path) -> None:
        """A preview, a PNG in the run folder."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Write out what is still held."""
