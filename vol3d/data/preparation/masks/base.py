"""What every way to find the brain is: a head in, a mask and a word on how it was found out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from vol3d.config import Config
from vol3d.data.visit import Visit
from vol3d.errors import DataError
from vol3d.volume import Volume

BRAIN_ML = (300.0, 2500.0)
"""What is smaller or larger than this is no brain."""


@dataclass(frozen=True, eq=False)
class Found:
    """A brain mask and how it came about.

    Attributes:
        mask: bool, on the grid of the head.
        method: a sentence.
        approximate: whether it may be off by some mm.
    """

    mask: Volume
    method: str
    approximate: bool = False


class BrainMask(Config, ABC):
    """See `vol3d.data.preparation.masks` for what goes in and out."""

    @abstractmethod
    def find(self, head: Volume, scan: Visit, folder: Path) -> Found:
        """The brain in a head.

        Args:
            head: the raw scan, RAS+.
            scan: whose it is, and its file.
            folder: the BIDS dataset.

        Raises:
            DataError: no brain is found, or it is no brain by its size.
        """


def checked(found: Found, what: str) -> Found:
    """Refuse a mask whose volume is not that of a brain."""
    ml = found.mask.grid.volume_ml(found.mask.data > 0)
    low, high = BRAIN_ML
    if not low <= ml <= high:
        raise DataError(
            f"{what}: the brain mask ({found.method}) holds {ml:.0f} ml, a brain has {low:.0f} to "
            f"{high:.0f}; give a mask of your own or another tool with mask=..."
        )
    return found
