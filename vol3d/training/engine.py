"""One process and one device: forward and backward passes, and updates that are safe to drop."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vol3d.errors import ConfigError, RunError
from vol3d.nn.precision import Precision, autocast
from vol3d.optim import Optim
from vol3d.training.ema import Ema


def device_of(name: str) -> torch.device:
    """`auto` takes the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: this machine has no CUDA device; take device=cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name}: auto, cpu, cuda or cuda:1 is due") from None


@runtime_checkable
class Settles(Protocol):
    """A layer with state that moves once an update, but not by a gradient (a codebook's means)."""

    def settle(self, ok: Tensor) -> None:
        """Move by what the forward passes since the last call added up; not at all unless `ok`."""


@dataclass
class Part:
    """A network that is trained, with what trains it."""

    net: nn.Module
    optimizer: torch.optim.AdamW
    ema: Ema | None


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
        """Look: one transfer from the device. Three dropped in a row stop the run.

        Raises:
            RunError: names the part, the terms and the subjects of the third.
        """
        dropped = []
        flags = (
            [
                f.tolist()
                for f in torch.cat([w[4] for w in self.waiting]).split(
                    [len(w[4]) for w in self.waiting]
                )
            ]
            if self.waiting
            else []
        )
        for (nimg, part, terms, names, _), finite in zip(self.waiting, flags, strict=True):
            bad = [t for t, ok in zip(terms, finite, strict=True) if not ok]
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


class Engine:
    """Wraps the parts of a task for one device.

    Args:
        nets: the networks that are trained, by the name of their part.
        optims: the optimiser settings of each part.
        averaged: the parts whose averaged weights go into the bundle.
        ema_halflife: half-life of the average, in images.
        device: where they run.
        precision: bf16 runs forward passes under autocast; weights and losses stay float32.
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
    ) -> None:
        self.device = device
        self.precision = precision
        self.optims = optims
        self.watch = Watch()
        self.terms: dict[str, list[str]] = {}
        self.values: dict[str, Tensor] = {}
        self.told: dict[str, list[Tensor]] = {}
        self.parts: dict[str, Part] = {}
        for name, net in nets.items():
            net.to(device, memory_format=torch.channels_last_3d).train()
            optimizer = optims[name].build(list(net.parameters()))
            self.parts[name] = Part(
                net, optimizer, Ema(net, ema_halflife) if name in averaged else None
            )

    @property
    def nets(self) -> dict[str, nn.Module]:
        """The networks in training, by part."""
        return {name: part.net for name, part in self.parts.items()}

    @property
    def averaged(self) -> dict[str, nn.Module]:
        """The networks with averaged weights where there are such, by part."""
        return {name: part.ema.net if part.ema else part.net for name, part in self.parts.items()}

    def autocast(self) -> torch.autocast:
        """The context in which networks are called."""
        return autocast(self.device, self.precision)

    def backward(self, name: str, losses: dict[str, Tensor], weight: float) -> None:
        """Add the gradients of one pass; `weight` is its share of the batch."""
        terms = torch.stack([loss.float() for loss in losses.values()])
        (terms.sum() * weight).backward()
        self.terms[name] = list(losses)
        values = terms.detach() * weight
        self.values[name] = self.values[name] + values if name in self.values else values

    def tell(self, measures: dict[str, Tensor]) -> None:
        """Figures of one pass to log beside the losses; they have no say in anything."""
        for name, value in measures.items():
            self.told.setdefault(name, []).append(value.detach().float())

    def step(self, *, share: float, nimg: int, names: list[str]) -> dict[str, Tensor]:
        """Update every part that had a backward pass; dropped on the device where not finite.

        Args:
            share: how much of the run is done, which sets the learning rate.
            nimg: images seen before this batch.
            names: the scans in the batch, to be named if the update is dropped.

        Returns:
            The losses of each part, and the measures that were told, still on the device.
        """
        report = {name: torch.stack(values).mean() for name, values in self.told.items()}
        for name, values in self.values.items():
            part, optim = self.parts[name], self.optims[name]
            norm = torch.nn.utils.clip_grad_norm_(part.net.parameters(), optim.clip, foreach=True)
            finite = torch.cat([values, norm[None]]).isfinite()
            ok = finite.all()
            for group in part.optimizer.param_groups:
                group["lr"] = optim.rate(share)
            # What torch's own GradScaler sets to skip a fused step without asking the device.
            part.optimizer.grad_scale = None
            part.optimizer.found_inf = (~ok).float()
            part.optimizer.step()
            part.optimizer.zero_grad(set_to_none=True)
            for module in part.net.modules():
                if isinstance(module, Settles):
                    module.settle(ok)
            self.watch.note(nimg, name, [*self.terms[name], "gradient"], names, finite)
            report |= dict(zip(self.terms[name], values, strict=True))
        self.values.clear()
        self.told.clear()
        return report

    def average(self, nimg: int, batch: int) -> None:
        """Move the averaged weights along."""
        for part in self.parts.values():
            if part.ema:
                part.ema.update(part.net, nimg, batch)

    # -- state for checkpoints --------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the rest of the run depends on, by name."""
        out: dict[str, Tensor] = {}
        for name, part in self.parts.items():
            out |= {f"{name}/net/{k}": v for k, v in part.net.state_dict().items()}
            if part.ema:
                out |= {f"{name}/ema/{k}": v for k, v in part.ema.net.state_dict().items()}
            for i, state in part.optimizer.state_dict()["state"].items():
                out |= {f"{name}/optimizer/{i}/{k}": v for k, v in state.items()}
        return out

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put the tensors of a checkpoint back."""
        for name, part in self.parts.items():
            part.net.load_state_dict(under(tensors, f"{name}/net/"))
            if part.ema:
                part.ema.net.load_state_dict(under(tensors, f"{name}/ema/"))
            weights = part.optimizer.param_groups[0]["params"]
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in under(tensors, f"{name}/optimizer/").items():
                i, k = key.split("/")
                # A fused step walks through memory, so moments must lie there as their weights do.
                layout = (
                    value if value.ndim == 0 else torch.empty_like(weights[int(i)]).copy_(value)
                )
                state.setdefault(int(i), {})[k] = layout
            part.optimizer.load_state_dict({**part.optimizer.state_dict(), "state": state})


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
