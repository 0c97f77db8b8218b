"""TensorBoard: `tensorboard --logdir runs` shows all runs below a folder."""

from pathlib import Path
from typing import Any, Literal

from vol3d.training.tracker import Track, Tracker


class TensorBoard(Tracker):
    """Curves and previews in the run's folder `tensorboard`."""

    kind: Literal["tensorboard"] = "tensorboard"

    def open(self, run: Path, settings: dict[str, Any], nimg: int) -> "Board":
        """What an earlier start wrote from image `nimg` on is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        return Board(SummaryWriter(str(run / "tensorboard"), purge_step=nimg))


class Board(Track):
    """An event file."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def numbers(self, nimg: int, values: dict[str, float]) -> None:
        """A curve each."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, nimg)

    def picture(self, nimg: int, path: Path) -> None:
        """As an image."""
        from matplotlib.image import imread

        self.writer.add_image("preview", imread(path)[..., :3], nimg, dataformats="HWC")

    def close(self) -> None:
        """Flush."""
        self.writer.close()
