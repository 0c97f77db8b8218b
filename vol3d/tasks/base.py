"""What the training loop asks of a task."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vol3d.data.covariates import Row
from vol3d.data.scan import Scan


@dataclass
class Batch:
    """Images that are trained on together.

    Attributes:
        nimg: images seen before it.
        names: of the scans.
        rows: their covariates.
        rngs: one generator an image, for whatever is still to be drawn for it.
        tensors: what the task drew, stacked, on the CPU.
    """

    nimg: int
    names: list[str]
    rows: list[Row]
    rngs: list[torch.Generator]
    tensors: dict[str, Tensor]

    def split(self, size: int) -> Iterator["Batch"]:
        """Micro-batches of `size` images."""
        for i in range(0, len(self.names), size):
            at = slice(i, i + size)
            yield Batch(
                self.nimg + i,
                self.names[at],
                self.rows[at],
                self.rngs[at],
                {k: v[at] for k, v in self.tensors.items()},
            )


class Runner(Protocol):
    """The part of an engine that a task may use."""

    device: torch.device

    @property
    def nets(self) -> dict[str, nn.Module]:
        """The networks in training, by part."""

    @property
    def averaged(self) -> dict[str, nn.Module]:
        """The same with averaged weights."""

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
        scans: the training scans.
    """

    title: str
    nets: dict[str, nn.Module]
    optims: dict[str, Any]
    averaged: list[str]
    scans: list[Scan]

    def draw(self, scan: Scan, rng: torch.Generator) -> dict[str, Tensor]:
        """One training image, augmented, from its own generator."""

    def losses(self, engine: Runner, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """The losses of each part in turn, weighted, on one micro-batch."""

    def preview(self, engine: Runner) -> np.ndarray:
        """A picture [rows, columns] in [0, 1] of how it stands."""

    def validate(self, engine: Runner) -> dict[str, float]:
        """Measures on validation people."""

    def bundle(self, engine: Runner) -> dict[str, Any]:
        """The arguments of `write_bundle`: config, weights, documents, card, inside."""
