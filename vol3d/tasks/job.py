"""What the training loop asks of a task."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vol3d.data.covariates import Row
from vol3d.data.visit import Visit


@dataclass
class Batch:
    """Images that are trained on together.

    Attributes:
        nimg: images seen before it, or before the batch that it is part of.
        rngs: one generator an image, for whatever is still to be drawn for it.
        drawn: what the task drew for each, on the CPU.
        everyone: names of all scans of the update, whichever rank they fall to.
    """

    nimg: int
    names: list[str]
    rows: list[Row]
    rngs: list[torch.Generator]
    drawn: list[dict[str, Tensor]]
    everyone: list[str]

    @property
    def share(self) -> float:
        """Which part of the update these images are."""
        return len(self.names) / len(self.everyone)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What was drawn, stacked; of one shape only (see `split`)."""
        return {k: torch.stack([d[k] for d in self.drawn]) for k in self.drawn[0]}

    def split(self, size: int) -> Iterator["Batch"]:
        """Micro-batches of at most `size` images of one shape each, in order."""
        for alike in self.of_one_shape():
            for i in range(0, len(alike), size):
                at = alike[i : i + size]
                of = (
                    [items[j] for j in at]
                    for items in (self.names, self.rows, self.rngs, self.drawn)
                )
                yield Batch(self.nimg, *of, self.everyone)

    def of_one_shape(self) -> list[list[int]]:
        """Places of the images, those of one shape together."""
        groups: dict[tuple, list[int]] = {}
        for i, drawn in enumerate(self.drawn):
            groups.setdefault(tuple(t.shape for t in drawn.values()), []).append(i)
        return list(groups.values())


class Runner(Protocol):
    """The part of an engine that a task may use."""

    device: torch.device

    @property
    def nets(self) -> dict[str, nn.Module]:
        """The networks in training, by part."""

    @property
    def averaged(self) -> dict[str, nn.Module]:
        """The same with averaged weights."""

    def call(self, name: str, *args: Tensor) -> Any:
        """A training pass of a part, whose losses will be given back."""

    def autocast(self) -> torch.autocast:
        """The context in which networks are called."""

    def tell(self, measures: dict[str, Tensor]) -> None:
        """Figures to log beside the losses, each a scalar."""


class Job(Protocol):
    """A task together with its data and networks: what a run works on.

    Attributes:
        title: for the progress bar.
        nets: the networks to train, by part.
        optims: optimiser settings of parts that have their own.
        averaged: the parts whose averaged weights are wanted.
        whole_weights: why every process must have all weights, where it must; None if need not be.
        uneven: the setting by which images of one update differ in shape; None where none does.
    """

    title: str
    whole_weights: str | None
    uneven: str | None
    nets: dict[str, nn.Module]
    optims: dict[str, Any]
    averaged: list[str]
    scans: list[Visit]

    def draw(self, scan: Visit, rng: torch.Generator) -> dict[str, Tensor]:
        """One training image, augmented, from its own generator."""

    def losses(self, engine: Runner, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """The losses of each part in turn, weighted, on one micro-batch."""

    def preview(self, engine: Runner) -> np.ndarray:
        """A picture [rows, columns] in [0, 1] of how it stands."""

    def validate(self, engine: Runner) -> dict[str, float]:
        """Measures on validation people."""

    def bundle(self, engine: Runner) -> dict[str, Any]:
        """The arguments of `write_bundle`: config, weights, documents, card, inside."""
