"""A visit: the images of one person on one day, with what is known about that person then."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from vol3d.io.header import Form

KINDS = {"T1w", "T2w", "FLAIR", "PDw", "T2starw", "UNIT1", "inplaneT2", "angio"}
"""Kinds of anatomical image, by BIDS's last word of their names."""
MAIN_LABELS = "labels"
"""The name of label maps that are no rater's."""


@dataclass(frozen=True)
class Visit:
    """The images of one person on one day.

    Attributes:
        subject: who, without "sub-", for example "IXI013".
        session: which visit, without "ses-"; None where the dataset has no sessions.
        images: the image files by contrast: T1w, T2w, FLAIR; what is missing is not there.
        covariates: what is known, by name; None where the value is missing.
        split: "train" or "val"; the same for all visits of a person.
        labels: label maps on the grid of the images, by name or rater.
        res: the name of the grid it is read on, for example "2mm", where a data set is read on
            several; else None.
        mask: a brain mask on the same grid, outside of which nothing is learnt from; None: all of it is.
        form: which placement of a header holds where sform and qform disagree; None: neither.
        only: the contrast that it was narrowed to, where each image is learnt from by itself; else None.
    """

    subject: str
    session: str | None
    images: dict[str, Path]
    covariates: dict[str, float | str | None]
    split: str
    labels: dict[str, Path] = field(default_factory=dict)
    res: str | None = None
    mask: Path | None = None
    form: Form | None = None
    only: str | None = None

    @property
    def image(self) -> Path:
        """The first of its images."""
        return next(iter(self.images.values()))

    @property
    def label_map(self) -> Path | None:
        """The first of its label maps; None where there is none."""
        return next(iter(self.labels.values()), None)

    @property
    def who(self) -> str:
        """Who and when, in BIDS's words: sub-IXI013, or sub-IXI013_ses-01."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")

    @property
    def name(self) -> str:
        """The visit in BIDS's words: as `who`, with resolution and contrast where these tell it apart."""
        res = f"_res-{self.res}" if self.res else ""
        return self.who + res + (f"_{self.only}" if self.only else "")

    def each(self) -> list["Visit"]:
        """The visit once for each of its images."""
        if len(self.images) == 1:
            return [self]
        return [replace(self, images={c: path}, only=c) for c, path in self.images.items()]


def kind_of(images: Iterable[Path]) -> str:
    """The kind of image that all names say; T1w where they say none, or several."""
    said = {kind_said(path) for path in images}
    return (said.pop() if len(said) == 1 else None) or "T1w"


def kind_said(image: Path) -> str | None:
    """The kind of image that a name says; None where it says none."""
    last = re.sub(r".*_|\.nii(\.gz)?$", "", f"_{image.name}")
    return last if last in KINDS else None
