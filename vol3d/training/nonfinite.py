"""Watches for updates that were not finite, without waiting for the device at each of them."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from vol3d.errors import RunError


@dataclass
class Dropped:
    """An update that was not made."""

    nimg: int
    part: str
    terms: list[str]
    names: list[str]


@dataclass
class Watch:
    """Keeps one flag per update on the device, and reads them all at once, seldom."""

    waiting: list[tuple[int, str, list[str], list[str], Tensor]] = field(default_factory=list)
    in_a_row: dict[str, int] = field(default_factory=dict)

    def note(
        self, nimg: int, part: str, terms: list[str], names: list[str], finite: Tensor
    ) -> None:
        """Remember which terms of an update were finite, without looking."""
        self.waiting.append((nimg, part, terms, names, finite))

    def read(self) -> list[Dropped]:
        """Look: one transfer from the device. Three dropped in a row stop the run (RunError)."""
        dropped = []
        flags = iter(torch.cat([w[4] for w in self.waiting]).tolist() if self.waiting else [])
        for nimg, part, terms, names, _ in self.waiting:
            bad = [t for t, ok in [(t, next(flags)) for t in terms] if not ok]
            self.in_a_row[part] = self.in_a_row.get(part, 0) + 1 if bad else 0
            if bad:
                dropped.append(Dropped(nimg, part, bad, names))
            if self.in_a_row[part] == 3:
                self.waiting.clear()
                raise RunError(
                    f"three updates of the {part} in a row were not finite, the last at image {nimg} "
                    f"in {', '.join(bad)} of {', '.join(names)}; lower optim.lr, or look at those scans"
                )
        self.waiting.clear()
        return dropped
