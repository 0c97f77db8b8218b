"""A scan: one image of one person, with what is known about that person on that day."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vol3d.io.header import Form

KINDS = {"T1w", "T2w", "FLAIR", "PDw", "T2starw", "UNIT1", "inplaneT2", "angio"}
"""Kinds of anatomical image, by BIDS's last word of their names."""


@dataclass(frozen=True)
class Scan:
    """One image of one person.

    Attributes:
        subject: who, without "sub-", for example "IXI013".
        session: which visit, without "ses-"; None where the dataset has no sessions.
        image: the image file.
        labels: a label map on the same grid; None where there is none.
        covariates: what is known, by name; None where the value is missing.
        split: "train" or "val"; the same for all scans of a person.
        res: the name of the grid it is read on, for example "2mm", where a data set is read on
            several; else None.
        mask: a brain mask on the same grid, outside of which nothing is learnt from; None: all of it is.
        form: which placement of a header holds where sform and qform disagree; None: neither.
    """

    subject: str
    session: str | None
    image: Path
    labels: Path | None
    covariates: dict[str, float | str | None]
    split: str
    res: str | None = None
    mask: Path | None = None
    form: Form | None = None

    @property
    def visit(self) -> str:
        """Who and when, in BIDS's words: sub-IXI013, or sub-IXI013_ses-01."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")

    @property
    def name(self) -> str:
        """The scan in BIDS's words: as `visit`, with its resolution where there are several."""
        return self.visit + (f"_res-{self.res}" if self.res else "")


def kind_of(images: Iterable[Path]) -> str:
    """The kind of image that all names say; T1w where they say none, or several."""
    said = {re.sub(r".*_|\.nii(\.gz)?$", "", f"_{path.name}") for path in images}
    return said.pop() if len(said) == 1 and said <= KINDS else "T1w"
