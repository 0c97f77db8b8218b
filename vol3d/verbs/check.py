"""Look at your data before anything is trained: who is there, who is left out and why, in words."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from vol3d.config import Config
from vol3d.data.dataset import Dataset
from vol3d.data.datasets import Source
from vol3d.data.images import Images
from vol3d.data.latents import Latents
from vol3d.data.summary import counted, grids, names_in, values
from vol3d.data.tables import few
from vol3d.data.visit import MAIN_LABELS, Visit
from vol3d.errors import ConfigError
from vol3d.tasks import Task
from vol3d.tasks.data_report import warn
from vol3d.training.loop import Training


class Check(Config):
    """Check data: vol3d check mydata.yaml [CONFIG.yaml ...] [picture=look.png]. Nothing is trained.

    With the config of a training, such as configs/ixi2mm/diffusion.yaml before mydata.yaml, it also tells
    whether the data have what that training wants; its other settings are left aside.
    """

    positional: ClassVar[tuple[str, ...]] = ()
    data: Annotated[Source | Latents, Field(discriminator="kind")]
    """The scans, or latents."""
    task: Task | None = None
    """What is to be trained on them."""
    picture: Path | None = None
    """A PNG to write, with three of the scans as networks see them, upright."""

    @model_validator(mode="before")
    @classmethod
    def leave(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Leave the other settings of a training aside."""
        aside = Training.model_fields.keys() - cls.model_fields.keys()
        return {k: v for k, v in given.items() if k not in aside}

    def execute(self) -> list[Path]:
        """Print what there is, a line each, and warn of what is doubtful; the picture."""
        if self.picture and self.picture.suffix != ".png":
            raise ConfigError(f"picture={self.picture}: the name of a .png is due")
        scans = self.data.scans()
        for what, value in self.lines(scans):
            sys.stdout.write(f"{what:15} {value}\n")
        sys.stdout.flush()
        warn(self.data, scans, self.task)
        images = Images(self.data) if isinstance(self.data, Dataset) else None
        return [self.show(scans, images)] if self.picture else []

    def lines(self, scans: list[Visit]) -> Iterator[tuple[str, str]]:
        """Scans, people, split, grids, label maps, masks and covariates."""
        visits = list({s.who: s for s in scans}.values())
        yield "scans", counted(visits)
        yield "to learn from", counted([s for s in visits if s.split == "train"])
        yield "held out", counted([s for s in visits if s.split == "val"])
        if isinstance(self.data, Dataset):
            if left := {s.who for s in self.data.find()} - {s.who for s in visits}:
                yield "left out", f"{few(left)}, by subjects and exclude"
            for grid, n in grids(visits).most_common():
                yield "grid", f"{grid}: {n} of {len(visits)}"
            for contrast in dict.fromkeys(c for s in visits for c in s.images):
                yield contrast, f"{sum(contrast in s.images for s in visits)} of {len(visits)}"
            for name in dict.fromkeys(n for s in visits for n in s.labels) or [MAIN_LABELS]:
                what = "label maps" if name == MAIN_LABELS else f"labels of {name}"
                yield what, f"{sum(name in s.labels for s in visits)} of {len(visits)}"
            yield "brain masks", f"{sum(s.mask is not None for s in visits)} of {len(visits)}"
        if not isinstance(self.data, Dataset) or self.data.grid:
            yield "learnt from", self.data.lies_on(scans)
        for name in names_in(scans):
            yield name, values(scans, name)

    def show(self, scans: list[Visit], images: Images | None) -> Path:
        """The picture: the first, the middle and the last of the scans."""
        from vol3d.planes import middle
        from vol3d.report.pictures import Panel, panels_in_rows, save

        if images is None:
            raise ConfigError(f"picture={self.picture}: latents cannot be shown; check the scans")
        scans = [s for s in scans if images.grid_of(s).matches(images.grid)]
        some = {scans[i].name: scans[i] for i in (0, len(scans) // 2, -1)}
        panels = [Panel(name, images.image(s)[0]) for name, s in some.items()]
        at = middle([p.x for p in panels])
        save(panels_in_rows([[p] for p in panels], images.grid.spacing, at), self.picture)
        return self.picture
