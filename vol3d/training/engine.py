"""Forward and backward passes on one device, shared out over ranks, and updates that are safe to drop."""

import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from vol3d.distributed.ranks import ALONE, Ranks
from vol3d.errors import ConfigError
from vol3d.nn.optim import Optim
from vol3d.nn.precision import Precision, autocast, resolve, why
from vol3d.training.checkpoint import Stored
from vol3d.training.engines import EngineKind, Torch
from vol3d.training.nonfinite import Watch
from vol3d.training.trained_net import TrainedNet

log = logging.getLogger(__name__)
PLAIN = Torch()


def device_of(name: str) -> torch.device:
    """`auto` takes the GPU where there is one; among several processes, each its own."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(f"device={name}: auto, cpu, cuda or cuda:1 is due")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: this machine has no CUDA device; take device=cpu")
    device = torch.device(name)
    if (device.index or 0) >= max(torch.cuda.device_count(), 1):
        raise ConfigError(
            f"device={name}: this machine has {torch.cuda.device_count()} of them, from 0 on"
        )
    return device


def tell_precision(precision: Precision, device: str) -> None:
    """Say what auto is on a device."""
    where = device_of(device)
    told = why(where) if precision == "auto" else precision
    log.info("precision=%s: %s", precision, told)


class Engine:
    """Wraps the networks of a task for one device.

    Args:
        averaged: those whose averaged weights go into the bundle.
        ema_halflife: half-life of the average, in images.
        precision: bf16 runs forward passes under autocast; weights and losses stay float32. auto is
            decided here, by the device.
        share: images of an update on each of them.
    """

    def __init__(
        self,
        nets: dict[str, nn.Module],
        optims: dict[str, Optim],
        *,
        averaged: list[str],
        ema_halflife: float,
        device: torch.device,
        precision: Precision,
        kind: EngineKind = PLAIN,
        ranks: Ranks = ALONE,
        share: int = 1,
    ) -> None:
        self.device, self.precision, self.ranks = device, resolve(precision, device), ranks
        self.optims = optims
        self.watch = Watch()
        self.terms: dict[str, list[str]] = {}
        self.values: dict[str, Tensor] = {}
        self.told: dict[str, list[Tensor]] = {}
        self.trained: dict[str, TrainedNet] = {}
        for name, net in nets.items():
            net.to(device, memory_format=torch.channels_last_3d).train()
            halflife = ema_halflife if name in averaged else None
            self.trained[name] = kind.trained_net(net, optims[name], halflife, ranks, share)

    @property
    def nets(self) -> dict[str, nn.Module]:
        """The networks in training, by name, for whatever is no training pass (see `call`)."""
        return {name: trained.net for name, trained in self.trained.items()}

    @property
    def averaged(self) -> dict[str, nn.Module]:
        """The networks with averaged weights where there are such, by name."""
        return {name: trained.averaged for name, trained in self.trained.items()}

    @contextmanager
    def whole(self) -> Iterator[None]:
        """While it lasts, the first rank can use `averaged`. Every rank must enter."""
        with ExitStack() as entered:
            for trained in self.trained.values():
                entered.enter_context(trained.whole())
            yield

    def call(self, name: str, *args: Tensor) -> object:
        """A training pass: a network is called, and `backward` will follow."""
        return self.trained[name](*args)

    def autocast(self) -> torch.autocast:
        """The context in which networks are called."""
        return autocast(self.device, self.precision)

    def backward(self, name: str, losses: dict[str, Tensor], weight: float) -> None:
        """Add the gradients of one pass; `weight` is its share of the batch of all ranks."""
        terms = torch.stack([loss.float() for loss in losses.values()])
        self.trained[name].backward(terms.sum() * weight)
        self.terms[name] = list(losses)
        values = terms.detach() * weight
        self.values[name] = self.values[name] + values if name in self.values else values

    def tell(self, measures: dict[str, Tensor]) -> None:
        """Figures of one pass to log beside the losses; they have no say in anything."""
        for name, value in measures.items():
            self.told.setdefault(name, []).append(value.detach().float())

    def step(self, *, share: float, nimg: int, names: list[str]) -> dict[str, Tensor]:
        """Update every network that had a backward pass; dropped on every rank where not finite.

        Args:
            share: how much of the run is done, which sets the learning rate.
            nimg: images seen before this batch.
            names: the scans in the batch of all ranks, to be named if the update is dropped.

        Returns:
            The losses of each network over all ranks, and the measures that were told, still on the
            device.
        """
        measures = {name: torch.stack(values).mean() for name, values in self.told.items()}
        told = torch.stack([*measures.values(), torch.ones((), device=self.device)])
        self.ranks.add_up([*self.values.values(), told])
        report = dict(zip(measures, told[:-1] / told[-1], strict=True))
        for name, values in self.values.items():
            trained = self.trained[name]
            finite = values.isfinite()
            norm = trained.step(self.optims[name].rate(share), finite.all())
            finite = torch.cat([finite, norm.isfinite()[None]])
            for module in trained.net.modules():
                if hasattr(module, "settle"):  # its state moves once an update, but by no gradient
                    module.settle(finite.all())
            self.watch.note(nimg, name, [*self.terms[name], "gradient"], names, finite)
            report |= dict(zip(self.terms[name], values, strict=True))
        self.values.clear()
        self.told.clear()
        return report

    def average(self, nimg: int, batch: int) -> None:
        """Move the averaged weights along."""
        for trained in self.trained.values():
            trained.average(nimg, batch)

    # -- state for checkpoints --------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the rest of the run depends on, whole, by name, on the CPU.

        They know nothing of ranks or engine. Every rank must ask; the first is given them.
        """
        out: dict[str, Tensor] = {}
        for name, trained in self.trained.items():
            for key, tensor in trained.tensors():
                if self.ranks.first:
                    out[f"{name}/{key}"] = tensor.detach().cpu().contiguous()
        return out

    def restore(self, stored: Stored) -> None:
        """Put the tensors of a checkpoint back."""
        for name, trained in self.trained.items():
            trained.restore(stored.under(f"{name}/"))
