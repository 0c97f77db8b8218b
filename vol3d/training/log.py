"""What a run leaves behind while it goes: a JSON line per report, previews, and its trackers."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vol3d.io.files import whole
from vol3d.io.reading import understood
from vol3d.training.nonfinite import Dropped
from vol3d.training.tracker import Track

log = logging.getLogger(__name__)


class RunLog:
    """`log.jsonl` and `previews/` in the run folder; after a resume they go on from its image.

    Args:
        tracks: told the same. One that fails is named and does not stop the run.
    """

    def __init__(self, folder: Path, nimg: int, tracks: Iterable[Track] = ()) -> None:
        self.path = folder / "log.jsonl"
        with understood(self.path):
            kept = [line for line in self.lines() if json.loads(line)["nimg"] <= nimg and nimg]
        with whole(self.path) as part:
            part.write_text("".join(f"{line}\n" for line in kept))
        self.folder, self.tracks = folder, list(tracks)

    def lines(self) -> list[str]:
        """The whole lines so far; a last one that a kill cut short is left out."""
        if not self.path.is_file():
            return []
        text = self.path.read_text()
        return text[: text.rfind("\n") + 1].splitlines()

    def write(self, nimg: int, event: str, **values: Any) -> None:
        """Append one record; its numbers also go to the trackers."""
        with self.path.open("a") as file:
            file.write(json.dumps({"nimg": nimg, "event": event, **values}) + "\n")
        numbers = {f"{event}/{k}": v for k, v in values.items() if isinstance(v, int | float)}
        if numbers:
            self.tell("numbers", nimg, numbers)

    def drop(self, dropped: Dropped) -> None:
        """Tell of an update that was not made."""
        d = dropped
        log.warning(
            "update dropped at image %d: %s of the %s not finite in %s",
            *(d.nimg, ", ".join(d.terms), d.part, ", ".join(d.names)),
        )
        self.write(d.nimg, "dropped", part=d.part, terms=d.terms, names=d.names)

    def show(self, nimg: int, picture: np.ndarray) -> None:
        """Keep a preview [rows, columns] in [0, 1] as PNG."""
        from matplotlib.image import imsave

        path = self.folder / "previews" / f"nimg-{nimg:010d}.png"
        path.parent.mkdir(exist_ok=True)
        times = max(1, 256 // len(picture))  # large enough to be seen without a lens
        imsave(path, np.kron(picture, np.ones((times, times))), cmap="gray", vmin=0, vmax=1)
        self.tell("picture", nimg, path)

    def close(self) -> None:
        """Write out what the trackers still hold."""
        self.tell("close")

    def tell(self, what: str, *about: Any) -> None:
        """Tell every tracker. A night's training is worth more than its curves elsewhere."""
        for track in self.tracks:
            try:
                getattr(track, what)(*about)
            except Exception as error:
                log.warning("%s: %s; the run goes on", type(track).__name__, error)


class Silence:
    """The log of every rank but the first."""

    def write(self, nimg: int, event: str, **values: Any) -> None:
        """Nothing."""

    def drop(self, dropped: Dropped) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
