"""What a run leaves behind while it goes: a JSON line per report, and the same in TensorBoard."""

import json
from pathlib import Path
from typing import Any

import numpy as np


class RunLog:
    """`log.jsonl` and `tensorboard/` in the run folder; after a resume both go on from its image."""

    def __init__(self, folder: Path, nimg: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "log.jsonl"
        kept = [line for line in self.lines() if json.loads(line)["nimg"] <= nimg and nimg]
        self.path.write_text("".join(f"{line}\n" for line in kept))
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=nimg)
        self.folder = folder

    def lines(self) -> list[str]:
        """The whole lines so far; a last one that a kill cut short is left out."""
        if not self.path.is_file():
            return []
        text = self.path.read_text()
        return text[: text.rfind("\n") + 1].splitlines()

    def write(self, nimg: int, event: str, **values: Any) -> None:
        """Append one record; numbers also go to TensorBoard."""
        with self.path.open("a") as file:
            file.write(json.dumps({"nimg": nimg, "event": event, **values}) + "\n")
        for name, value in values.items():
            if isinstance(value, int | float):
                self.board.add_scalar(f"{event}/{name}", value, nimg)

    def show(self, nimg: int, picture: np.ndarray) -> None:
        """Keep a preview [rows, columns] in [0, 1] as PNG and in TensorBoard."""
        from matplotlib.image import imsave

        path = self.folder / "previews" / f"nimg-{nimg:010d}.png"
        path.parent.mkdir(exist_ok=True)
        picture = np.kron(
            picture, np.ones((max(1, 256 // len(picture)),) * 2)
        )  # seen without a lens
        imsave(path, picture, cmap="gray", vmin=0, vmax=1)
        self.board.add_image("preview", picture, nimg, dataformats="HW")

    def close(self) -> None:
        """Flush what TensorBoard still holds."""
        self.board.close()
