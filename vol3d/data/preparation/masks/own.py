"""The data set's own brain mask: a file beside the scan, or a scan that is stripped already."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vol3d.data.brain import solid
from vol3d.data.datasets.bids import Bids, Entities, place_of
from vol3d.data.preparation.masks.base import BrainMask, Found, checked
from vol3d.data.preparation.masks.command import Command
from vol3d.data.preparation.masks.template import Template
from vol3d.data.scan_checks import is_stripped
from vol3d.data.visit import Visit
from vol3d.errors import DataError
from vol3d.volume import Volume


class Own(BrainMask):
    """What the data set has, and another way for the scans that have nothing."""

    kind: Literal["own"] = "own"
    path: Path | None = None
    """Folder with the masks, laid out as BIDS; the data set itself if not given."""
    entities: Entities = Field(default_factory=lambda: {"desc": "brain"})
    """What the names of the masks must say: sub-01_desc-brain_mask.nii.gz; and the scan's own space and
    res, unless told otherwise."""
    otherwise: Annotated[Template | Command, Field(discriminator="kind")] | None = Template()
    """For a scan that has no mask and is not stripped; null: such a scan fails."""

    def find(self, head: Volume, scan: Visit, folder: Path) -> Found:
        """The mask's file, what is above 0 in a stripped scan, or `otherwise`."""
        visit, entities = (scan.subject, scan.session), {**place_of(scan.image), **self.entities}
        masks = Bids(path=self.path or folder)
        file = masks.files("mask", entities, "mask.entities", {visit: scan.image}).get(visit)
        if file is not None:
            mask = Volume.read(file, scan.form).reorient("RAS")
            if not mask.grid.matches(head.grid, tolerance_mm=0.01):
                raise DataError(
                    f"{file}: lies on a grid of {mask.grid}, the scan on {head.grid} (or elsewhere "
                    f"in the world); resample it onto the scan"
                )
            inside = Volume(mask.data > 0, mask.affine)
            return checked(Found(inside, f"the data set's own: {file.name}"), scan.name)
        if is_stripped(head):
            mask = solid(Volume(head.data > 0, head.affine))
            return checked(Found(mask, "the scan was skull-stripped already"), scan.name)
        if self.otherwise is None:
            raise DataError(
                f"{scan.name}: has no brain mask and is not skull-stripped; "
                f"let one be made with mask=template, or give masks with mask.path=FOLDER"
            )
        return self.otherwise.find(head, scan, folder)
