"""A cost estimate: the real training step on tensors that have a shape but no data, with its costs.

Nothing here knows what a network holds: the engine, the task and autograd run as they will, under
torch's FakeTensorMode, and a ledger beneath them follows every storage from birth to death.
"""

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from vol3d.data.rng import torch_rng
from vol3d.nn.suspended import suspended
from vol3d.tasks.job import Batch, Job
from vol3d.training.engine import PLAIN
from vol3d.training.engines import EngineKind
from vol3d.training.fake_cuda import cuda_rules
from vol3d.training.loop import Training, engine_of, update

WITHOUT_WORK = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "detach"}
NUMBER = torch.ops.aten._local_scalar_dense.default
"""Asks for a number; a tensor without data says 0."""
DEVICE = torch.ops.prim.device.default
"""Asks which device a tensor is on, thousands of times."""


@dataclass(frozen=True)
class Work:
    """One operation: what it computes, in which precision, and what it reads and writes."""

    dtype: torch.dtype
    flops: float
    moved: float


@dataclass
class Cost:
    """What an update costs.

    Attributes:
        step: bytes of tensors that live at once in an update, at most.
        validation: the same while validation people are looked at, which is done on whole volumes.
        lasting: bytes that live between updates: weights, moments, averages; on the CPU the next
            images too.
        largest: bytes of the largest convolution's or product's operands, which sets workspaces.
        work: the operations of an update, and how often each is done.
    """

    step: int
    validation: int
    lasting: int
    largest: int
    work: Counter[Work] = field(repr=False)

    @property
    def peak(self) -> int:
        """The more of the two: what the run must have."""
        return max(self.step, self.validation)

    @property
    def flops(self) -> float:
        """Floating-point operations of an update, two a multiplication and addition."""
        return sum(n * w.flops for w, n in self.work.items())


class Ledger(TorchDispatchMode):
    """Counts the bytes of the storages that live on one kind of device, and the work that is done."""

    def __init__(self, device: torch.device, memo: dict) -> None:
        super().__init__()
        self.device, self.memo = device, memo
        self.live: dict[int, int] = {}
        self.now = self.peak = self.largest = 0
        self.work: Counter[Work] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        if func is DEVICE:
            return place_of(*args)
        if func.namespace != "aten":
            return func(*args, **(kwargs or {}))
        if torch.is_inference_mode_enabled():
            with self:  # elsewhere autograd has taken compound operations apart by now
                out = func.decompose(*args, **(kwargs or {}))
            if out is not NotImplemented:
                return out
        if func is NUMBER and isinstance(args[0], FakeTensor):
            dtype = args[0].dtype
            return 0.0 if dtype.is_floating_point else 0 if dtype != torch.bool else False
        out = func(*args, **(kwargs or {}))
        given = tensors((args, kwargs))
        keys = set(map(self.enter, given))
        fresh = [t for t in tensors(out) if self.enter(t) not in keys]
        if fresh or func._schema.is_mutable:  # else it is a view
            self.note(func, args, kwargs or {}, out, [*given, *fresh])
        # FakeTensorMode remembers tensors weakly, and a module cannot be moved while it does.
        self.memo.clear()
        return out

    def enter(self, t: Tensor) -> int:
        """Count the storage of a tensor, once, until it dies; its key."""
        storage = t.untyped_storage()
        key = storage._cdata
        if key not in self.live:
            self.live[key] = storage.nbytes() if self.counts(t) else 0
            self.now += self.live[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.leave, key)
        return key

    def counts(self, t: Tensor) -> bool:
        """Whether it lives on the device."""
        return place_of(t).type == self.device.type

    def leave(self, key: int) -> None:
        """A storage has died."""
        self.now -= self.live.pop(key)

    def note(self, func: Any, args: tuple, kwargs: dict, out: Any, touched: list[Tensor]) -> None:
        """Add an operation to the work."""
        packet = func.overloadpacket
        if packet.__name__ in WITHOUT_WORK:
            return
        moved = sum(t.numel() * t.element_size() for t in touched if self.counts(t))
        flops = flops_of(packet, args, kwargs, out)
        if flops:
            self.largest = max(self.largest, moved)
        self.work[Work(touched[0].dtype, flops, moved)] += 1


def place_of(t: Tensor) -> torch.device:
    """Where a tensor is; a fake one is asked without the detour through all modes."""
    return t.fake_device if isinstance(t, FakeTensor) else t.device


def tensors(tree: Any) -> list[Tensor]:
    """The tensors in nested arguments."""
    return [t for t in tree_leaves(tree) if isinstance(t, Tensor)]


def flops_of(packet: Any, args: tuple, kwargs: dict, out: Any) -> float:
    """As torch's own counter has them; attention is named differently on each device."""
    if packet in flop_registry:
        return flop_registry[packet](*args, **kwargs, out_val=out)
    name = packet.__name__
    if name.startswith("_scaled_dot_product") and "backward" in name:
        _, q, k, v = (t.shape for t in args[:4])
        return 2.5 * sdpa_flop_count(q, k, v)  # five products for the forward pass's two
    if name.startswith("_scaled_dot_product"):
        return sdpa_flop_count(*(t.shape for t in args[:3]))
    return 0.0


class Aside(TorchFunctionMode):
    """What is done otherwise with fake tensors: copies stay fake, lists of indices have numbers."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.__deepcopy__:  # torch's own would copy the data
            return fake_copy(*args)
        indices = func is torch.arange and "device" not in (kwargs or {})
        if indices or (func is Tensor.tolist and not isinstance(args[0], FakeTensor)):
            with suspended():
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def fake_copy(t: Tensor, memo: dict[int, Tensor]) -> Tensor:
    """As `copy.deepcopy` does it, with its memory of what it has copied."""
    if id(t) not in memo:
        copy = t.detach().clone()
        is_weight = isinstance(t, nn.Parameter)
        memo[id(t)] = nn.Parameter(copy, t.requires_grad) if is_weight else copy
    return memo[id(t)]


@contextmanager
def stage(device: torch.device) -> Iterator[tuple[Ledger, torch.device]]:
    """Where tensors have no data; the ledger, and the device on which the engine is to run.

    A GPU that is not at hand is stood in for by the CPU: autograd knows no device that is not there.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    ledger = Ledger(device, fake.fake_tensor_converter.meta_converter.tensor_memo)
    with ExitStack() as entered:
        if device.type == "cuda" and not torch.cuda.is_available():
            device = ledger.device = torch.device("cpu")
            entered.enter_context(cuda_rules())
        for mode in (Aside(), fake, ledger):
            entered.enter_context(mode)
        yield ledger, device


Done = dict[str, tuple[Cost, Job]]
"""Estimates on the plain engine, by their settings."""


def estimate_cost(
    training: Training,
    fake: Any,
    device: torch.device,
    world: int = 1,
    done: Done | None = None,
) -> Cost:
    """What an update of this training costs on a device, once its optimisers have their moments.

    Args:
        training: with its task; the last update is estimated, when all its parts take part.
        fake: the data, as the task's `estimate` takes them.
        device: where the training is to run; it need not be at hand.
        world: processes that do the same, so that the engine may share out what is kept.
        done: of the same data and device, to look into and to add to: engines differ in what they
            keep alone.
    """
    kind, done = training.engine, {} if done is None else done
    plain = training.model_copy(update={"engine": PLAIN})  # others need real memory
    name = str(plain.dump())
    if name not in done:
        done[name] = estimate_alone(plain, fake, device, kind)
    cost, job = done[name]
    kind.check(job)
    at_step, between = spared_by(kind, job, world)
    at_rest = {k: getattr(cost, k) - between for k in ("validation", "lasting")}
    return replace(cost, step=cost.step - at_step, **at_rest)


def estimate_alone(
    training: Training, fake: Any, device: torch.device, kind: EngineKind
) -> tuple[Cost, Job]:
    """The cost on the plain engine, and the job; `kind` may refuse it before that is known."""
    on_cpu = device.type == "cpu"
    micro = training.micro_batch or training.batch
    with stage(device) as (ledger, device):
        job = training.task.fake_job(fake)
        kind.check(job)
        engine = engine_of(job, training, device)
        with suspended():  # what is drawn for an image looks at its numbers
            drawn = largest_draw(job)
        passes = 2 if micro < training.batch else 1  # the rest are as the second
        coming = [blank(drawn) for _ in range(training.batch * on_cpu)]  # read ahead
        others = [blank(drawn) for _ in range((training.batch - passes * micro) * on_cpu)]

        for part in engine.trained.values():  # makes the moments, as the first update does
            part.step(0.0, torch.ones((), dtype=torch.bool, device=device))
        ledger.work = Counter()
        batch = fake_batch(job, training, drawn, passes * micro)
        batch = Passes(**vars(batch), ledger=ledger)
        update(job, training, engine, batch)
        engine.watch.waiting.clear()
        work = ledger.work
        for w, n in (batch.ends[-1] - batch.ends[0]).items():
            work[w] += n * (training.batch // micro - passes)
        del batch, others
        step, lasting = ledger.peak, ledger.now
        ledger.peak, ledger.work = ledger.now, Counter()
        job.draw = lambda scan, rng: blank(drawn)
        with suppress(DynamicOutputShapeException):  # voxels are picked when the networks have run
            job.validate(engine)
        validation = ledger.peak
        del engine, coming
    return Cost(step, validation, lasting, ledger.largest, work), job


@dataclass
class Passes(Batch):
    """A batch that notes what had been done at the end of each pass."""

    ledger: Ledger
    ends: list[Counter[Work]] = field(default_factory=list)

    def split(self, size: int) -> Iterator[Batch]:
        """The passes, each of which is over when the next is asked for."""
        for micro in super().split(size):
            yield micro
            self.ends.append(self.ledger.work.copy())


def spared_by(kind: EngineKind, job: Job, world: int) -> tuple[int, int]:
    """Bytes that an engine saves a rank where the plain one keeps everything: at an update, between."""
    n = {name: sum(p.numel() for p in net.parameters()) for name, net in job.nets.items()}
    counts = sum(n.values()), sum(n[name] for name in job.averaged)
    return (
        int(PLAIN.resident(*counts, 1) - kind.resident(*counts, world)),
        int(PLAIN.between(*counts, 1) - kind.between(*counts, world)),
    )


def largest_draw(job: Job) -> dict[str, Tensor]:
    """What the task draws for an image, of the resolution where that is most."""
    scans = {scan.res: scan for scan in job.scans}.values()
    drawn = [job.draw(scan, torch_rng("estimate", i)) for i, scan in enumerate(scans)]
    return max(drawn, key=lambda d: sum(t.numel() for t in d.values()))


def blank(drawn: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fake tensors of the same shapes."""
    return {k: torch.empty(t.shape, dtype=t.dtype) for k, t in drawn.items()}


def fake_batch(job: Job, training: Training, drawn: dict[str, Tensor], n: int) -> Batch:
    """The last batch of the training, of n images."""
    scan = job.scans[0]
    rngs = [torch_rng("estimate", i) for i in range(n)]
    nimg = max(training.total_nimg - training.batch, 0)
    images = [blank(drawn) for _ in range(n)]
    names = [scan.name] * n
    return Batch(nimg, names, [scan.covariates] * n, rngs, images, names)
