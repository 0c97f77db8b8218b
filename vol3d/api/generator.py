"""A generator as Python sees it: what is asked for goes in, a volume comes out."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vol3d.api.arguments import ruled_by
from vol3d.api.images import Image, header_of, seen
from vol3d.data.covariate_requests import checked
from vol3d.data.covariate_types import Category, Number, Row
from vol3d.data.network_images import as_seen
from vol3d.report.contact_sheet import caption
from vol3d.trained import TrainedGenerator
from vol3d.trained.generated_cohort import drawn
from vol3d.trained.inpainted import inpaint
from vol3d.verbs.generate import Generate
from vol3d.verbs.inpaint import Inpaint
from vol3d.volume import Grid, Volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
OWN = ("seed", "images", "image", "mask")
"""What may be given beside covariates."""


@dataclass(frozen=True, eq=False, repr=False)
class Generated(Volume):
    """A volume of nobody, and what its model was told.

    Attributes:
        seed: with the covariates it makes the same volume again.
        covariates: all that the model was told: what was asked for, and what was drawn for the rest.
        caption: the same in words.
    """

    seed: int = 0
    covariates: Row = field(default_factory=dict)
    caption: str = ""

    def figure(self, title: str = "", **options: Any) -> "Figure":
        """See `Volume.figure`; the title is the caption, if none is given."""
        return super().figure(title or f"seed {self.seed}: {self.caption}", **options)


class Generator:
    """Draws volumes; each is fixed by its seed and its covariates.

    Attributes:
        model: what is beneath, with tensors; not stable.
    """

    def __init__(self, model: TrainedGenerator) -> None:
        self.model = model
        for words in model.unfinished:
            log.warning("warning: %s: %s", model.path, words)

    @property
    def covariates(self) -> dict[str, Number | Category]:
        """What may be asked for: numbers with `unit`, `low` and `high`, categories with `levels`."""
        return {column.name: column for column in self.model.schema.columns}

    @property
    def grid(self) -> Grid:
        """Where the voxels of its volumes lie; the finest of several."""
        return self.model.grid

    @ruled_by(Generate, "seed")
    def generate(
        self, *, seed: int = 0, images: Mapping[str, Image] | None = None, **covariates: Any
    ) -> Generated:
        """Draw one volume: `generate(age=70, sex="F", seed=3)`.

        It is the one that `vol3d generate` draws of that seed, before it is stored in steps of 0.0001.
        Covariates that are not asked for are drawn from the training distribution given the rest, or
        left to the model, as the model says.

        Args:
            seed: another one is another person.
            images: that guide, of a model that takes some, by name: files or volumes on the model's grid.
            covariates: by name, in the model's units.

        Returns:
            An image in [0, 1], 0 outside the brain; or a label map, of a model that draws those.

        Raises:
            ConfigError: an unknown covariate, level or image, or a value that cannot be.
            DataError: an image cannot be read.
        """
        asked, row = self.told(covariates, seed)
        given = {name: self.guide(name, image) for name, image in (images or {}).items()}
        ((_, volume),) = drawn(self.model, [(seed, asked, row)], lambda _: given)
        return Generated(
            *(volume.data, volume.affine, volume.space_code),
            seed=seed,
            covariates=row,
            caption=caption(row, self.model.schema),
        )

    @ruled_by(Inpaint, "seed")
    def inpaint(self, image: Image, mask: Image, *, seed: int = 0, **covariates: Any) -> Volume:
        """Draw anew what a mask covers, so that it goes with the rest, as `vol3d inpaint` does.

        Args:
            image: file or volume of a brain on the model's grid, in any orientation.
            mask: on the same grid; what is above 0 is drawn.
            seed: fixes what is drawn.
            covariates: see `generate`.

        Returns:
            The image with its own intensities; voxels that the mask leaves out are as they were.

        Raises:
            ConfigError: see `generate`.
            DataError: image or mask lie elsewhere, or the mask covers nothing or everything.
        """
        _, row = self.told(covariates, seed)
        return inpaint(self.model, header_of(image, "image"), header_of(mask, "mask"), row, seed)

    def told(self, covariates: dict[str, Any], seed: int) -> tuple[Row, Row]:
        """What is asked for, and the complete row; warns of what is doubtful."""
        asked = checked(self.model.schema, covariates, OWN)
        for words in self.model.schema.doubts(asked):
            log.warning("warning: %s", words)
        return asked, self.model.complete(asked, seed)

    def guide(self, name: str, image: Image) -> Volume:
        """An image that guides as the model takes it: labels as they are, others in [0, 1]."""
        volume = seen(image, name)
        is_labels = name in getattr(self.model.codec, "maps", {})
        return volume if is_labels else as_seen(volume)

    def __repr__(self) -> str:
        lines = [f"Generator {self.model.path}: {self.model.kind} on {self.grid}"]
        for name, column in self.covariates.items():
            if isinstance(column, Number):
                lines.append(f"  {name}: {column.low:g} to {column.high:g} {column.unit}".rstrip())
            else:
                lines.append(f"  {name}: {', '.join(column.levels)}")
        return "\n".join(lines)
