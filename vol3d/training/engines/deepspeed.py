"""DeepSpeed's ZeRO: the optimiser's state, the gradients and the weights are shared out over the ranks.

Rajbhandari et al. 2020 (arXiv:1910.02054). Weights and sums are float32 at every stage and networks
run under the same autocast as elsewhere, so that a run gives the same on every engine.
"""

import contextlib
import copy
import logging
import os
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn

from vol3d.config import Config
from vol3d.distributed.ranks import BUCKET, Ranks, backend
from vol3d.errors import ConfigError
from vol3d.nn.optim import Optim
from vol3d.tasks.job import Job
from vol3d.training.checkpoint import Stored
from vol3d.training.ema import Ema, move, share
from vol3d.training.trained_net import MOMENTS, TrainedNet


class DeepSpeed(Config):
    """DeepSpeed ZeRO: what a network needs beside its activations is shared out over the processes."""

    kind: Literal["deepspeed"] = "deepspeed"
    stage: Literal[1, 2, 3] = 2
    """What is shared out: 1 the optimiser's state, 2 the gradients too, 3 the weights too."""
    overlap: bool = True
    """Send gradients on a GPU while the backward pass goes on."""

    def resident(self, n: int, averaged: int, world: int) -> float:
        """Bytes on each of `world` ranks at an update, beside activations; see `Torch.resident`.

        Seen with DeepSpeed 0.19: the buffers of what is sent have their full size in a small network
        too, and at stage 3 there are whole weights that are kept for the backward pass, that were
        fetched ahead, and that are computed with.
        """
        share, sent = n / world, min(n, BUCKET)
        buffers = BUCKET * (2 if self.overlap and self.stage == 2 else 1)
        state = 3 * share  # a copy that is updated, and two moments
        if self.stage == 1:  # gradients move into the buffer, and from there to this rank's share
            values = n + averaged + state + max(n + buffers, 2 * share)
        elif self.stage == 2:  # a full buffer is copied to be sent; gradients are laid end to end
            values = n + averaged + state + max(share + buffers + sent, 2 * share)
        else:  # what is shared out; then whole weights, and a buffer copied to be sent and received
            whole = min(n, 3 * BUCKET)
            shared = share + averaged / world + state + share
            values = shared + whole + buffers + sent * (1 + 1 / world)
        return 4.0 * values

    def between(self, n: int, averaged: int, world: int) -> float:
        """Bytes on the first rank between updates; at stage 3 it puts the averages together then."""
        share = n / world
        values = n + averaged + 3 * share
        if self.stage == 3:  # with this rank's gradients, and a buffer that stays
            values = 5 * share + averaged / world + BUCKET + averaged
        return 4.0 * values

    def check(self, job: Job) -> None:
        """Refuse, by a ConfigError, what would hang or give something else."""
        if self.stage == 3 and job.whole_weights:
            raise ConfigError(f"engine.stage=3: {job.whole_weights}; take engine.stage=2")
        is_mixed = len({s.res for s in job.scans}) > 1
        uneven = "several resolutions" if is_mixed else job.uneven
        if self.stage > 1 and uneven:
            raise ConfigError(
                f"engine.stage={self.stage}: gradients are shared out after every pass, and with "
                f"{uneven} the processes make different numbers of them; take "
                f"engine.stage=1, or engine=torch"
            )
        if not all(p.requires_grad for net in job.nets.values() for p in net.parameters()):
            raise ConfigError("engine.kind=deepspeed: some weights are frozen; take engine=torch")

    def trained_net(
        self, net: nn.Module, optim: Optim, halflife: float | None, ranks: Ranks, share: int
    ) -> "DeepSpeedPart":
        """What trains a network; see `Torch.trained_net`."""
        device = next(net.parameters()).device
        net.to(memory_format=torch.contiguous_format)  # it lays all weights end to end
        os.environ.setdefault("DS_ACCELERATOR", device.type)
        deepspeed = load()
        os.environ.setdefault("LOCAL_RANK", str(device.index or 0))  # it insists, alone too
        if not distributed.is_initialized():  # a run of one process
            distributed.init_process_group(
                backend(device.type == "cuda"), store=distributed.HashStore(), rank=0, world_size=1
            )
        settings = {
            "train_batch_size": share * ranks.world,
            "train_micro_batch_size_per_gpu": share,
            "managed_gradient_accumulation": False,  # our loop adds the passes of an update up
            "gradient_clipping": optim.clip,
            "zero_allow_untested_optimizer": True,  # torch's AdamW: nothing is compiled
            "zero_optimization": {
                "stage": self.stage,
                "overlap_comm": self.overlap and self.stage > 1 and device.type == "cuda",
                "reduce_bucket_size": BUCKET,  # its own 2 GB would be most of what it saves
                "allgather_bucket_size": BUCKET,
                # It would keep whole weights until a billion of them are there.
                "stage3_max_live_parameters": BUCKET,
                "stage3_max_reuse_distance": BUCKET,
                "stage3_prefetch_bucket_size": BUCKET,
            },
            "steps_per_print": None,
        }
        made: type[DeepSpeedPart] = Stage3Part if self.stage == 3 else DeepSpeedPart
        return made(deepspeed, settings, net, optim, halflife, ranks)


def load() -> Any:
    """The module, told to be quiet and to compile nothing."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    try:
        import deepspeed
    except ImportError:
        raise ConfigError(
            'engine.kind=deepspeed: is not installed; pip install "vol3d[deepspeed]"'
        ) from None
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # On a CPU it would compile an all-reduce of its own, for half a minute or not at all; there is no
    # setting for it.
    with contextlib.suppress(AttributeError):
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


class AsCalled(nn.Module):
    """A network under the autocast of whoever calls the part; DeepSpeed turns it off on the way."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.autocasts = net, False

    def forward(self, *args: Tensor) -> object:
        """The network's own."""
        with torch.autocast(args[0].device.type, torch.bfloat16, enabled=self.autocasts):
            return self.net(*args)


class DeepSpeedPart(TrainedNet):
    """Stages 1 and 2: every rank has the whole weights; see `TrainedNet`."""

    def __init__(
        self,
        deepspeed: Any,
        settings: dict[str, Any],
        net: nn.Module,
        optim: Optim,
        halflife: float | None,
        ranks: Ranks,
    ) -> None:
        self.ranks, self.net, self.halflife = ranks, net, halflife
        self.make_average()
        self.optimizer = optim.build(list(net.parameters()))
        self.inner = AsCalled(net)
        self.engine, self.zero, _, _ = deepspeed.initialize(
            model=self.inner, optimizer=self.optimizer, config=settings
        )
        self.tools = deepspeed.utils

    def make_average(self) -> None:
        """Before DeepSpeed takes the weights apart."""
        self.ema = None if self.halflife is None else Ema(self.net, self.halflife)

    def __call__(self, *args: Tensor) -> object:
        """A training pass, by which DeepSpeed learns that a backward pass will come."""
        self.inner.autocasts = torch.is_autocast_enabled(args[0].device.type)
        return self.engine(*args)

    def backward(self, loss: Tensor) -> None:
        """Add gradients; DeepSpeed takes the mean over ranks where we want the sum."""
        self.engine.backward(loss * self.ranks.world)

    def step(self, lr: float, ok: Tensor) -> Tensor:
        """DeepSpeed's own step, which makes no update where the gradient is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # What a fused step of torch looks at: where a loss is not finite, nothing moves either.
        self.optimizer.grad_scale = None
        self.optimizer.found_inf = (~ok).float()
        self.engine.step()
        norm = self.engine.get_global_grad_norm()
        return torch.as_tensor(norm, dtype=torch.float32, device=ok.device)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Put together over the ranks, one by one."""
        for name, p in self.net.named_parameters():
            yield f"net/{name}", self.tools.safe_get_full_fp32_param(p)
        yield from ((f"net/{name}", b) for name, b in kept_buffers(self.net))
        yield from self.averages()
        steps = [s["step"] for s in self.optimizer.state.values() if "step" in s]
        if not steps:
            return
        for name, p in self.net.named_parameters():
            for moment in MOMENTS:
                yield f"{moment}/{name}", self.tools.safe_get_full_optimizer_state(p, moment)
        yield "step", steps[0]

    def averages(self) -> Iterator[tuple[str, Tensor]]:
        """Those of the averaged weights."""
        if self.ema:
            yield from ((f"ema/{k}", v) for k, v in self.ema.net.state_dict().items())

    def restore(self, stored: Stored) -> None:
        """Give every rank its share."""
        self.restore_weights(stored.under("net/"))
        self.restore_averages(stored)
        if "step" not in stored:
            return
        self.make_moments()
        for name, p in self.net.named_parameters():
            for moment in MOMENTS:
                self.restore_moment(p, stored[f"{moment}/{name}"].to(p.device), moment)
        for state in self.optimizer.state.values():
            state["step"].copy_(stored["step"])

    def restore_weights(self, stored: Stored) -> None:
        """The weights, and the float32 copy of which each rank keeps its share."""
        stored.fill(self.net)
        for p in self.net.parameters():
            self.tools.safe_set_full_fp32_param(p, p.detach())

    def restore_moment(self, p: nn.Parameter, whole: Tensor, moment: str) -> None:
        """One moment of one weight."""
        self.tools.safe_set_full_optimizer_state(p, whole, moment)

    def restore_averages(self, stored: Stored) -> None:
        """The averaged weights."""
        if self.ema:
            stored.under("ema/").fill(self.ema.net)

    def make_moments(self) -> None:
        """The moments, all zero: by a step of AdamW that is dropped."""
        self.first_step(self.zero.single_partition_of_fp32_groups)
        self.zero._lazy_init_hp_params_optimizer_state()  # there is no public word for it

    def first_step(self, shares: list[Tensor]) -> None:
        """A step of AdamW on these tensors that makes its state and moves nothing."""
        groups = self.optimizer.param_groups
        for share_ in shares:
            share_.grad = torch.zeros_like(share_)
            self.optimizer.grad_scale = None
            self.optimizer.found_inf = torch.ones((), device=share_.device)
            self.optimizer.param_groups = [{**groups[0], "params": [share_]}]
            self.optimizer.step()
            share_.grad = None
        self.optimizer.param_groups = groups


class Stage3Part(DeepSpeedPart):
    """Stage 3: every rank has a share of the weights, and of their averages; see `TrainedNet`.

    A weight p lies in p.ds_tensor, the same number of values on every rank, the last padded.
    """

    def make_average(self) -> None:
        """The first rank keeps an empty shell to fill when the averaged network is wanted."""
        self.shell = nn.Identity()
        if self.ranks.first:
            self.shell = copy.deepcopy(self.net).cpu().requires_grad_(False).eval()
        self.shares: list[Tensor] | None = None

    def average(self, nimg: int, batch: int) -> None:
        """Each rank moves its share of the averages."""
        if self.halflife is not None:
            mine = [p.ds_tensor for p in self.net.parameters()]
            self.shares = self.shares or [t.detach().clone() for t in mine]
            move(self.shares, mine, share(self.halflife, nimg, batch))

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Fill the shell."""
        state = self.shell.state_dict()
        for name, average in self.averages():
            if self.ranks.first:
                state[name.removeprefix("ema/")].copy_(average)
        self.shell.to(next(self.net.parameters()).device)
        yield
        self.shell.cpu()

    @property
    def averaged(self) -> nn.Module:
        """The averaged network, within `whole`."""
        return self.shell

    def averages(self) -> Iterator[tuple[str, Tensor]]:
        """Those of the averaged weights; of the weights themselves where nothing is averaged."""
        for i, (name, p) in enumerate(self.net.named_parameters()):
            mine = self.shares[i] if self.shares else p.ds_tensor
            whole = self.ranks.gather(mine.flatten())
            yield f"ema/{name}", whole[: p.ds_numel].view(p.ds_shape)
        yield from ((f"ema/{name}", b) for name, b in kept_buffers(self.net))

    def restore_weights(self, stored: Stored) -> None:
        """Each rank takes its share of the weights, twice: to compute with and to update."""
        for name, p in self.net.named_parameters():
            whole = stored[name].to(p.ds_tensor.device)
            p.ds_tensor.data.copy_(self.share_of(whole, p))
            self.tools.safe_set_local_fp32_param(p, self.share_of(whole, p))
        for name, buffer in kept_buffers(self.net):
            buffer.copy_(stored[name])

    def restore_moment(self, p: nn.Parameter, whole: Tensor, moment: str) -> None:
        """This rank's share; DeepSpeed's own word for whole tensors trips over padding."""
        self.tools.safe_set_local_optimizer_state(p, self.share_of(whole, p), moment)

    def restore_averages(self, stored: Stored) -> None:
        """Each rank takes its share of the averaged weights."""
        if self.halflife is not None:
            self.shares = [
                self.share_of(stored[f"ema/{name}"].to(p.ds_tensor.device), p)
                for name, p in self.net.named_parameters()
            ]

    def share_of(self, whole: Tensor, p: nn.Parameter) -> Tensor:
        """This rank's share of a whole tensor, padded with zeros."""
        n = p.ds_tensor.numel()
        padded = whole.new_zeros(n * self.ranks.world)
        padded[: whole.numel()] = whole.flatten()
        return padded[n * self.ranks.rank : n * (self.ranks.rank + 1)].clone()

    def make_moments(self) -> None:
        """The moments, all zero."""
        self.first_step(self.zero.fp32_partitioned_groups_flat)


def kept_buffers(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The buffers that are in a network's state dict."""
    weights = {name for name, _ in net.named_parameters()}
    yield from ((k, v) for k, v in net.state_dict().items() if k not in weights)
