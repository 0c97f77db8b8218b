"""The training loop: one page, safe to kill and run again at any point."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from vol3d.config import Config
from vol3d.data.rng import item_at, torch_rng
from vol3d.distributed.ranks import ALONE, Ranks
from vol3d.errors import ConfigError
from vol3d.io import files
from vol3d.io.files import is_free, whole
from vol3d.io.progress import Bar
from vol3d.io.reading import read_json
from vol3d.nn.optim import Optim
from vol3d.nn.precision import Precision
from vol3d.tasks.job import Batch, Job
from vol3d.training.checkpoint import Checkpoints, Stored, check_scans, digest
from vol3d.training.engine import Engine, device_of
from vol3d.training.engines import EngineKind, Torch
from vol3d.training.log import RunLog, Silence
from vol3d.training.signals import NEVER, StopSignal
from vol3d.training.trackers import TrackerKind
from vol3d.training.trackers.tensorboard import TensorBoard

log = logging.getLogger(__name__)


class Training(Config):
    """How a task is trained, whatever the task is. Progress is counted in images."""

    run: Path
    """The folder of this run; run again with the same settings to go on where it stopped."""
    total_nimg: PositiveInt
    """Images to train on, counted with repetition; a larger number makes a finished run longer."""
    batch: PositiveInt = 8
    """Images per update, of all processes together."""
    micro_batch: PositiveInt | None = None
    """Images per forward pass; divides the batch. Smaller takes less memory."""
    engine: EngineKind = Torch()
    """What shares the training out where several processes are started (torchrun, srun)."""
    optim: Optim = Optim()
    """The optimiser of the model."""
    ema_halflife: float = Field(default=2000, gt=0)
    """Half-life of the averaged weights, in images."""
    seed: int = 0
    """Fixes initial weights, order of the scans, and all noise."""
    precision: Precision = "auto"
    """bf16 or fp32; auto takes bf16 where the device multiplies it in hardware, and a run keeps what it
    began with."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    readers: PositiveInt = 2
    """Threads that read and draw the next images meanwhile."""
    check_memory: bool = True
    """Before anything is allocated, refuse what does not fit the device, and say what would."""
    log_every: PositiveInt = 400
    """Images between reports; non-finite updates are noticed then."""
    preview_every: PositiveInt = 4000
    """Images between preview pictures and measures on the validation people."""
    save_every: PositiveInt = 4000
    """Images between checkpoints."""
    keep: PositiveInt = 2
    """How many checkpoints stay on disk."""
    trackers: dict[str, TrackerKind | None] = {"tensorboard": TensorBoard()}
    """Where to follow the run beside its own log, by any name; null takes the default one away."""

    @model_validator(mode="after")
    def check_batch(self) -> "Training":
        """The batch is a whole number of passes."""
        if self.batch % (self.micro_batch or self.batch):
            raise ValueError(f"micro_batch={self.micro_batch} must divide batch={self.batch}")
        return self


@dataclass
class State:
    """Where a run stands."""

    nimg: int = 0
    seconds: float = 0.0
    dropped: int = 0


def train(job: Job, training: Training, engine: Engine, stop: StopSignal = NEVER) -> int:
    """Train until `total_nimg` images have been seen, or until stop was given; saved either way.

    Returns:
        0, or the signal because of which all ranks are to leave.

    Raises:
        RunError: three updates in a row were not finite; a full disk; all checkpoints damaged.
    """
    ranks = engine.ranks
    checkpoints = Checkpoints(training.run / "checkpoints", training.keep)
    learnt_from = digest(job.scans)
    state = resume(checkpoints, engine, learnt_from)
    report = open_log(training, state.nimg) if ranks.first else Silence()
    batches = draw_batches(job, training, state.nimg, ranks)
    recent: list[dict[str, Tensor]] = []
    clock, waited, began = time.monotonic(), 0.0, state.nimg

    with Bar(job.title, training.total_nimg, state.nimg, silent=not ranks.first) as bar:
        if not state.nimg:  # what would fail later fails in the first minute
            validate_and_preview(job, engine, report, 0)
        while True:
            leaving = ranks.largest(stop.number)  # all leave after the same update
            done = state.nimg >= training.total_nimg
            last = done or leaving > 0

            # Once in a while: report, show and measure, save. The last image included.
            saving = due(training.save_every, state, training.batch, last)
            if recent and (saving or due(training.log_every, state, training.batch, last)):
                passed, clock = time.monotonic() - clock, time.monotonic()
                state.seconds += passed
                for d in engine.watch.read():
                    state.dropped += 1
                    report.drop(d)
                means = mean_losses(recent)
                times = {"seconds": round(state.seconds, 2), "waiting": round(waited / passed, 4)}
                report.write(state.nimg, "train", **times, **means)
                bar.say(" ".join(f"{k} {v:.3g}" for k, v in means.items()))
                waited = 0.0
                recent.clear()
            if state.nimg > began and due(training.preview_every, state, training.batch, done):
                validate_and_preview(job, engine, report, state.nimg)
            if state.nimg > began and saving:
                more = {"watch": engine.watch.in_a_row, "scans": learnt_from}
                save(checkpoints, engine, state.nimg, {**vars(state), **more})
            if last:
                report.close()
                return 0 if done else leaving

            asked = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - asked
            recent.append(update(job, training, engine, batch))
            state.nimg += training.batch
            bar.advance(training.batch)


def open_log(training: Training, nimg: int) -> RunLog:
    """The run's log, with its trackers, going on from image `nimg`."""
    trackers = filter(None, training.trackers.values())
    tracks = [t.open(training.run, training.dump(), nimg) for t in trackers]
    return RunLog(training.run, nimg, tracks)


def validate_and_preview(job: Job, engine: Engine, report: RunLog | Silence, nimg: int) -> None:
    """Preview and validation, which are the first rank's work."""

    def alone() -> None:
        report.show(nimg, job.preview(engine))
        report.write(nimg, "validation", **job.validate(engine))

    with engine.whole():
        engine.ranks.alone(alone)


def save(checkpoints: Checkpoints, engine: Engine, nimg: int, state: dict) -> None:
    """A checkpoint: put together by all ranks, written by the first."""
    tensors = engine.tensors()
    engine.ranks.alone(lambda: checkpoints.write(nimg, tensors, state))


def update(job: Job, training: Training, engine: Engine, batch: Batch) -> dict[str, Tensor]:
    """One update of every part (the model; or generator and discriminator); their losses.

    The batch is this rank's share of the images.
    """
    for micro in batch.split(min(training.micro_batch or training.batch, len(batch.names))):
        for part, losses in job.losses(engine, micro):
            engine.backward(part, losses, micro.share)
    share = batch.nimg / training.total_nimg
    report = engine.step(share=share, nimg=batch.nimg, names=batch.everyone)
    engine.average(batch.nimg + training.batch, training.batch)
    return report


def due(every: int, state: State, batch: int, done: bool) -> bool:
    """Whether a multiple of `every` images lies within the batch that just ended."""
    return done or state.nimg // every > (state.nimg - batch) // every


def resume(checkpoints: Checkpoints, engine: Engine, learnt_from: str) -> State:
    """Take up the newest whole checkpoint, if there is one; on every rank the same."""
    found = engine.ranks.alone(checkpoints.newest)
    if found is None:
        return State()
    state = read_json(found / "state.json")
    check_scans(checkpoints.folder.parent, state.pop("scans", None), learnt_from)
    engine.restore(Stored(found / "tensors.safetensors"))
    engine.watch.in_a_row = state.pop("watch")
    log.info("going on at image %d", state["nimg"])
    return State(**state)


def draw_batches(job: Job, training: Training, nimg: int, ranks: Ranks = ALONE) -> Iterator[Batch]:
    """This rank's share of the batches from image `nimg` on; read while the one before is used.

    Every image has its own generator, from (seed, image index): what is drawn for it depends on
    neither the batch size nor a resume, nor on which rank it falls to.
    """
    share = training.batch // ranks.world

    def batch_at(nimg: int) -> Batch:
        everyone = [
            job.scans[item_at(training.seed, i, len(job.scans))]
            for i in range(nimg, nimg + training.batch)
        ]
        mine = range(ranks.rank * share, (ranks.rank + 1) * share)
        scans = [everyone[i] for i in mine]
        rngs = [torch_rng(training.seed, nimg + i) for i in mine]
        drawn = list(readers.map(job.draw, scans, rngs))
        names, rows = [s.name for s in scans], [s.covariates for s in scans]
        return Batch(nimg, names, rows, rngs, drawn, [s.name for s in everyone])

    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(training.readers) as readers:
        coming = ahead.submit(batch_at, nimg)
        while True:
            nimg += training.batch
            ready, coming = coming.result(), ahead.submit(batch_at, nimg)
            yield ready


def share_of(training: Training, ranks: Ranks) -> int:
    """Images of an update on each rank; a ConfigError where the batch cannot be shared out evenly."""
    if training.batch % ranks.world:
        raise ConfigError(
            f"batch={training.batch}: cannot be shared out evenly over {ranks.world} processes; "
            f"take a multiple, or start fewer"
        )
    return training.batch // ranks.world


def mean_losses(recent: list[dict[str, Tensor]]) -> dict[str, float]:
    """Means since the last report: one transfer from the device a term."""
    terms = {k for losses in recent for k in losses}
    return {
        k: torch.stack([r[k] for r in recent if k in r]).nanmean().item() for k in sorted(terms)
    }


def check_folder(training: Training) -> None:
    """Refuse, by a ConfigError, a run folder that holds something else, or a run of other settings.

    A finished run may be made longer. It goes on with the learning rate that it would have there, had it
    been so long from the start.
    """
    folder, mine = training.run, training.run / "config.yaml"
    free = {"run", "device", "check_memory", "log_every", "preview_every", "save_every", "keep"}
    free |= {"trackers", "engine", "micro_batch", "readers"}
    if mine.is_file():
        before = type(training).read(mine).dump()
        now = training.dump()
        is_longer = training.total_nimg > before["total_nimg"] and (folder / "bundle").is_dir()
        if is_longer and not Checkpoints(folder / "checkpoints", training.keep).all():
            raise ConfigError(f"{folder}: has no checkpoint from which it could be made longer")
        if is_longer:
            free.add("total_nimg")
        other = [k for k in now if k not in free and now[k] != before.get(k)]
        if other == ["total_nimg"]:
            raise ConfigError(
                f"{folder}: holds a run of total_nimg={before['total_nimg']}, which can be made longer "
                f"once it has finished, and never shorter; name another folder with run=..."
            )
        if other:
            raise ConfigError(
                f"{folder}: holds a run with other settings ({', '.join(other)}); "
                f"name another folder with run=..., or remove it"
            )
    elif not is_free(folder):
        raise ConfigError(f"{folder}: holds something that is not a run; name another with run=...")


def make_folder(training: Training) -> None:
    """Make the run folder with its settings."""
    with whole(files.make_folder(training.run) / "config.yaml") as part:
        training.write(part)


def start(
    job_of: Callable[[], Job], training: Training, ranks: Ranks = ALONE
) -> tuple[Job, Engine]:
    """Build the job with seeded weights and the engine around it; a ConfigError where they do not fit."""
    share_of(training, ranks)
    device = device_of(training.device)
    torch.manual_seed(training.seed)  # initial weights; everything later has its own generator
    job = job_of()
    training.engine.check(job)
    return job, engine_of(job, training, device, ranks)


def engine_of(job: Job, training: Training, device: torch.device, ranks: Ranks = ALONE) -> Engine:
    """The engine around a job's networks."""
    return Engine(
        job.nets,
        {name: job.optims.get(name, training.optim) for name in job.nets},
        averaged=job.averaged,
        ema_halflife=training.ema_halflife,
        device=device,
        precision=training.precision,
        kind=training.engine,
        ranks=ranks,
        share=share_of(training, ranks),
    )
