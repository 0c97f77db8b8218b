"""One image of one person, without a table: for what looks at images alone."""

import re
from pathlib import Path
from typing import Literal

from vol3d.data.bids_writer import parse_entities
from vol3d.data.dataset import Dataset
from vol3d.data.visit import KINDS, Visit, kind_of
from vol3d.errors import ConfigError


class OneImage(Dataset):
    """A NIfTI file."""

    kind: Literal["image"] = "image"
    path: Path
    """The file."""
    contrast: str | None = None
    """What it is: T1w, FLAIR; without it, what its name says."""
    mask: Path | None = None
    """A brain mask on the same grid, outside of which it becomes 0."""

    def find(self) -> list[Visit]:
        """The one visit; its person is told by a name in BIDS's words, else by the name itself.

        A name that is a contrast alone, anna/T1w.nii.gz, tells no person; the folder's does.
        """
        for path in (self.path, *filter(None, [self.mask])):
            if not path.is_file():
                raise ConfigError(f"{path}: no such image")
        said = parse_entities(self.path)
        name = re.sub(r"\.nii(\.gz)?$", "", self.path.name)
        if name in KINDS:
            name = self.path.absolute().parent.name.removeprefix("sub-") or name
        subject = said.get("sub") or re.sub("[^A-Za-z0-9]", "", name) or "image"
        contrast = self.contrast or kind_of([self.path])
        split = self.split_of(subject, "train")
        return [Visit(subject, said.get("ses"), {contrast: self.path}, {}, split, mask=self.mask)]
