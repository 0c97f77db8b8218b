"""The plain engine: every rank keeps the whole network, and gradients are added up between them."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.distributed.ranks import ALONE, BUCKET, Ranks
from vol3d.nn.optim import Optim
from vol3d.tasks.job import Job
from vol3d.training.checkpoint import Stored
from vol3d.training.ema import Ema
from vol3d.training.trained_net import MOMENTS, TrainedNet


class Torch(Config):
    """Every process keeps the whole network (data parallel); for one GPU or many."""

    kind: Literal["torch"] = "torch"

    def resident(self, n: int, averaged: int, world: int) -> float:
        """Bytes on each of `world` ranks at an update, beside activations.

        Args:
            n: weights of all networks: the weight, its gradient and two moments, float32 each.
            averaged: how many of them have an average.
            world: processes.
        """
        sent = min(n, BUCKET) if world > 1 else 0  # laid end to end
        return 16.0 * n + 4.0 * averaged + 4.0 * sent

    def between(self, n: int, averaged: int, world: int) -> float:
        """The same on the first rank between updates, while it looks at the averaged networks."""
        return 12.0 * n + 4.0 * averaged

    def check(self, job: Job) -> None:
        """Every job can be done."""

    def trained_net(
        self, net: nn.Module, optim: Optim, halflife: float | None, ranks: Ranks, share: int
    ) -> "TorchPart":
        """What trains a network on its device.

        Args:
            net: the network, on its device.
            optim: how its weights move.
            halflife: of the averaged weights, in images; None without.
            ranks: the processes.
            share: images of an update on each of them.
        """
        return TorchPart(net, optim, halflife, ranks)


class TorchPart(TrainedNet):
    """See `TrainedNet`."""

    def __init__(
        self, net: nn.Module, optim: Optim, halflife: float | None, ranks: Ranks = ALONE
    ) -> None:
        self.net, self.clip, self.ranks = net, optim.clip, ranks
        self.optimizer = optim.build([p for _, p in self.learning()])
        self.ema = None if halflife is None else Ema(net, halflife)

    def __call__(self, *args: Tensor) -> object:
        """A training pass."""
        return self.net(*args)

    def backward(self, loss: Tensor) -> None:
        """Add gradients."""
        loss.backward()

    def step(self, lr: float, ok: Tensor) -> Tensor:
        """One all-reduce of the gradients when all passes are done, and a fused AdamW step."""
        for _, p in self.learning():  # a rank, or all, may have had no use for a weight
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        self.ranks.add_up([p.grad for _, p in self.learning()])
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.clip, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # What torch's own GradScaler sets to skip a fused step without asking the device.
        self.optimizer.grad_scale = None
        self.optimizer.found_inf = (~(ok & norm.isfinite())).float()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def learning(self) -> list[tuple[str, nn.Parameter]]:
        """The weights that are not frozen, by name."""
        return [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Everything is whole here."""
        yield from ((f"net/{k}", v) for k, v in self.net.state_dict().items())
        if self.ema:
            yield from ((f"ema/{k}", v) for k, v in self.ema.net.state_dict().items())
        for name, p in self.learning():
            state = self.optimizer.state.get(p, {})
            yield from ((f"{moment}/{name}", state[moment]) for moment in MOMENTS if state)
        if self.optimizer.state:
            yield "step", next(iter(self.optimizer.state.values()))["step"]

    def restore(self, stored: Stored) -> None:
        """Copy everything into place."""
        stored.under("net/").fill(self.net)
        if self.ema:
            stored.under("ema/").fill(self.ema.net)
        if "step" not in stored:
            return
        for name, p in self.learning():
            # A fused step walks through memory, so moments must lie there as their weights do.
            moments = {k: torch.empty_like(p).copy_(stored[f"{k}/{name}"]) for k in MOMENTS}
            self.optimizer.state[p] = {"step": stored["step"].clone().to(p.device), **moments}
