"""A scan: one image of one person, with what is known about that person on that day."""

from dataclasses import dataclass
from pathlib import Path


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
    """

    subject: str
    session: str | None
    image: Path
    labels: Path | None
    covariates: dict[str, float | str | None]
    split: str

    @property
    def name(self) -> str:
        """The scan in BIDS's words: sub-IXI013, or sub-IXI013_ses-01."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")
