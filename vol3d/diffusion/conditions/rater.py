"""Whose label map is drawn: that of a rater, of those whose maps were learnt from."""

from typing import Literal

from torch.nn.functional import one_hot

from vol3d.diffusion.condition import Condition, Ports
from vol3d.diffusion.conditioning import (
    RATER,
    Conditioning,
    ConditioningModule,
    Given,
    Grid3,
    Known,
)
from vol3d.errors import ConfigError


class Rater(Conditioning):
    """The network is told whose map it denoises. Seeds go round the raters: members are of each in turn.

    For raters who outlined many people, each with habits of their own (as in Schmidt et al. 2023,
    arXiv:2307.11397, who learn a distribution for each). Hidden numbers (see `Ambiguity`) need not know
    who outlined what.
    """

    kind: Literal["rater"] = "rater"

    def connect(self, known: Known) -> tuple[Ports, "RaterModule"]:
        """See `Conditioning.connect`."""
        if known.raters < 2:
            raise ConfigError(
                "kind=rater: there is nobody to tell apart; it is for target.kind=labels, with the label "
                "maps of two raters or more in target.of"
            )
        return Ports(vector=known.raters), RaterModule(known.raters)


class RaterModule(ConditioningModule):
    """A rater -> 1 in their own place of a vector."""

    def __init__(self, raters: int) -> None:
        super().__init__()
        self.raters = raters

    def forward(self, given: Given, shape: Grid3) -> Condition:
        """Who: [B, raters]."""
        return Condition(vector=one_hot(given[RATER] % self.raters, self.raters).float())
