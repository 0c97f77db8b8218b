"""What an engine makes of a network: something that runs, learns and can be written down whole."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from vol3d.training.checkpoint import Stored
from vol3d.training.ema import Ema

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each weight: the running mean of its gradient, and of the gradient's square."""


class TrainedNet(ABC):
    """A network that is trained, with what trains it. Every rank calls the same in the same order.

    Attributes:
        net: the network; its weights may be shared out over the ranks.
        ema: its averaged weights, where they are wanted and kept whole.
    """

    net: nn.Module
    ema: Ema | None

    @abstractmethod
    def __call__(self, *args: Tensor) -> object:
        """A training pass: the network is called, and its gradients will be wanted."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Add the gradients of this rank's share of the batch's loss to those of the update."""

    @abstractmethod
    def step(self, lr: float, ok: Tensor) -> Tensor:
        """Update the weights with the gradients of all ranks, unless something is not finite.

        Args:
            lr: the learning rate.
            ok: whether the losses are finite: a bool on the device, the same on every rank.

        Returns:
            The norm of the gradient, on the device. Where it is not finite nothing moved.
        """

    def average(self, nimg: int, batch: int) -> None:
        """Move the averaged weights along, after a batch that ended at image `nimg`."""
        if self.ema:
            self.ema.update(self.net, nimg, batch)

    @property
    def averaged(self) -> nn.Module:
        """The network with averaged weights where there are such, else as it is."""
        return self.ema.net if self.ema else self.net

    @contextmanager
    def whole(self) -> Iterator[None]:
        """While it lasts, the first rank can call `averaged`, whatever is shared out."""
        yield

    @abstractmethod
    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Whole tensors by name: `net/`, `ema/`, `exp_avg/` and `exp_avg_sq/` of each weight; `step`.

        What is shared out is put together, one tensor at a time: every rank must iterate.
        """

    @abstractmethod
    def restore(self, stored: Stored) -> None:
        """Take over such tensors."""
