"""Whose label map is drawn: that of a rater, of those whose maps were learnt from."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from vol3d.diffusion.condition import Condition, Ports
from vol3d.diffusion.conditioning import (
    NUMBERS,
    RATER,
    Conditioning,
    ConditioningModule,
    Given,
    Grid3,
    Known,
    Penalty,
    no_penalty,
)
from vol3d.errors import ConfigError


class Rater(Conditioning):
    """The network is told whose map it denoises; a sample is of a rater chosen at random, each alike.

    For raters who outlined many people, each with habits of their own (as in Schmidt et al. 2023,
    arXiv:2307.11397, who learn a distribution for each). Hidden numbers (see `Ambiguity`) need not know
    who outlined what.
    """

    kind: Literal["rater"] = "rater"

    @property
    def numbers(self) -> int:
        """See `Conditioning.numbers`: one, which says who."""
        return 1

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
        """Who, of a standard normal number: its share of the distribution, in so many equal parts."""
        share = torch.special.ndtr(given[NUMBERS][:, 0])
        return self.told((share * self.raters).long().clamp(max=self.raters - 1))

    def learn(self, given: Given, x0: Tensor) -> tuple[Condition, Penalty]:
        """Who made the map."""
        return self.told(given[RATER]), no_penalty

    def told(self, who: Tensor) -> Condition:
        """Places [B] -> a vector [B, raters]."""
        return Condition(vector=one_hot(who, self.raters).float())
