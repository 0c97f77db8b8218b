"""What several processes hold and send, measured on the CPU; the tables are benchmarks/scaling.py's."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.plan import HONEST, begin, peak
from benchmarks.table import NONE, grid
from vol3d.cli import fill
from vol3d.distributed.ranks import Ranks, joined
from vol3d.io.files import sha256
from vol3d.tasks.job import Job
from vol3d.training.checkpoint import Checkpoints, sync
from vol3d.training.cost_estimate import Ledger, estimate_cost, fake_batch, largest_draw, tensors
from vol3d.training.engine import PLAIN, Engine, device_of
from vol3d.training.engines import DeepSpeed, EngineKind
from vol3d.training.loop import engine_of, resume, update
from vol3d.training.memory_check import of_one_rank
from vol3d.training.planner import fake_data
from vol3d.verbs.plan import Plan

ENGINES: dict[str, EngineKind] = {"data parallel": PLAIN} | {
    f"ZeRO {stage}": DeepSpeed(stage=stage) for stage in (1, 2, 3)
}
SMALL = (
    "configs/ixi2mm/diffusion.yaml shape=[3,8,8,8] batch=4 precision=fp32 device=cpu "
    "task.model.num_res_blocks=2 task.model.norm_groups=32"
)
LARGE = (
    "configs/brain1mm/diffusion.yaml shape=[3,8,8,8] batch=1 micro_batch=1 precision=fp32 device=cpu "
    "task.model.channels=[192,384,512] 'task.model.head_channels=[0,384,512]'"
)
WORLDS = {"[64,96,160]": (1, 2), "[96,192,288]": (1, 2), "[192,384,480]": (2,)}
"""Widths of U-Nets of 19, 61 and some 200 M weights, and on how many processes."""
GB, MB = 1e9, 1e6


class Account(Ledger):
    """The ledger of live tensors, which also counts what is handed to each kind of collective."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"), {})
        self.sent: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        if func.namespace == "c10d":
            self.sent[func.overloadpacket.__name__] += sum(t.nbytes for t in tensors(args[:1]))
        return super().__torch_dispatch__(func, types, args, kwargs)


def on_a_rank(words: list[str]) -> dict[str, Any]:
    """In one of the processes that torchrun started: what an update holds and sends."""
    with joined("cpu") as ranks:
        training = fill("plan", Plan, words)
        mine, device = of_one_rank(training, ranks), device_of("cpu")
        fake = fake_data(training, training.shape)
        planned = estimate_cost(mine, fake, device, ranks.world)
        warm_up(training, ranks)
        before = begin(device)
        with Account() as account:
            job = training.task.fake_job(fake)
            n = sum(p.numel() for net in job.nets.values() for p in net.parameters())
            engine = engine_of(job, training, device, ranks)
            built = account.peak
            for _ in range(3):
                account.peak = account.now
                account.sent.clear()
                begin(device)
                one_update(job, mine, engine, ranks.world)
            step, resident, sent = account.peak, peak(device) - before, dict(account.sent)
            lasting = account.peak = account.now
            with engine.whole():
                if ranks.first:
                    job.validate(engine)
            look = account.peak
        shells = [getattr(part, "shell", None) for part in engine.trained.values()]
        shell = 4 * n * (shells[0] is not None)  # but for looks it lies in the host's memory
        began = time.monotonic()
        engine.tensors()
        return {
            "rank": ranks.rank,
            "n": n,
            "built": built,
            "step": step - shell,
            "resident": resident - shell,
            "lasting": lasting - shell,
            "look": look,
            "planned": planned.step,
            "planned_look": planned.look,
            "gather_s": time.monotonic() - began,
            "sent": sent,
        }


def one_update(job: Job, training: Plan, engine: Engine, world: int) -> None:
    """An update of this rank's share of a batch of nothing in particular."""
    drawn = largest_draw(job)
    told = fake_batch(job, training, drawn, training.batch)
    images = [{k: torch.rand(t.shape) for k, t in drawn.items()} for _ in told.names]
    update(job, training, engine, replace(told, drawn=images, everyone=told.names * world))


def warm_up(training: Plan, ranks: Ranks) -> None:
    """A small network on the same engine, so that what libraries load at first use is there before."""
    engine = Engine(
        {"net": torch.nn.Linear(8, 8)},
        {"net": training.optim},
        averaged=["net"],
        ema_halflife=1,
        device=device_of("cpu"),
        precision="fp32",
        kind=training.engine,
        ranks=ranks,
    )
    for _ in range(2):
        engine.backward("net", {"loss": engine.call("net", torch.rand(2, 8)).mean()}, 1.0)
        engine.step(share=0.5, nimg=0, names=[])
        engine.average(1, 1)


def torchrun(world: int, words: list[str]) -> list[dict[str, Any]]:
    """What each of so many processes finds."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [*start, f"--nproc-per-node={world}", "-m", "benchmarks.on_ranks", *words],
            env={**os.environ, **HONEST, "FOUND": folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return [json.loads(file.read_text()) for file in sorted(Path(folder).iterdir())]


def memory() -> dict[str, str]:
    """Computed and measured, for networks smaller and larger than what DeepSpeed sends at a time."""
    rows, traffic = [], []
    for width in WORLDS:
        for world in WORLDS[width]:
            for name, kind in ENGINES.items():
                words = [
                    *shlex.split(SMALL),
                    f"task.model.channels={width}",
                    f"engine={told(kind)}",
                ]
                words += ["engine.overlap=false"] * (kind is not PLAIN)
                ranks = torchrun(world, words)
                worst = max(ranks, key=lambda r: r["step"])
                n = worst["n"]
                sizes = (worst[k] for k in ("planned", "step", "resident", "lasting"))
                ratio = worst["planned"] / worst["step"]
                look = max(r["look"] for r in ranks)
                cells = [f"{n / MB:.0f} M", name, f"{world}", *(f"{x / MB:.0f}" for x in sizes)]
                rows.append(
                    [*cells, f"{look / MB:.0f}", f"{ratio:.2f}", f"{worst['gather_s']:.1f}"]
                )
                sent = ", ".join(f"{k} {v / 4 / n:.2f}" for k, v in worst["sent"].items())
                traffic.append([*cells[:3], sent or NONE])
                print(*rows[-1], sent, flush=True)
    head = ["weights", "engine", "processes", "computed", "measured", "resident", "between updates"]
    return {
        "memory on the CPU": grid([*head, "look", "computed / measured", "s to gather"], rows),
        "collectives": grid([*head[:3], "handed over, in units of the weights"], traffic),
    }


def told(kind: EngineKind) -> str:
    """An engine in words."""
    return "{" + ", ".join(f"{k}: {v}" for k, v in kind.dump().items() if k != "overlap") + "}"


def checkpoint() -> dict[str, str]:
    """Seconds and memory to write a checkpoint and to go on from it, on one process."""
    training = fill("plan", Plan, shlex.split(LARGE))
    job = training.task.fake_job(fake_data(training, training.shape))
    engine = engine_of(job, training, device_of("cpu"))
    one_update(job, training, engine, 1)
    n = sum(p.numel() for net in job.nets.values() for p in net.parameters())
    rows = []

    def timed(name: str, act: Callable[[], Any]) -> Any:
        before, began = begin(engine.device), time.monotonic()
        found = act()
        seconds, more = time.monotonic() - began, peak(engine.device) - before
        rows.append([name, f"{seconds:.1f}", f"{max(more, 0) / GB:.1f}"])
        print(*rows[-1], flush=True)
        return found

    with tempfile.TemporaryDirectory(dir=".") as folder:
        file = Path(folder) / "pieces.safetensors"
        gathered = engine.tensors()
        laid = timed("lay out", lambda: {k: v.contiguous() for k, v in gathered.items()})
        timed("write", lambda: save_file(laid, file))
        timed("checksum", lambda: sha256(file))
        timed("fsync", lambda: sync(file))
        size = file.stat().st_size
        file.unlink()
        laid.clear()
        checkpoints = Checkpoints(Path(folder) / "checkpoints", 1)
        state = {"scans": "", "watch": {}, "seconds": 0.0, "dropped": 0}
        timed("all of these", lambda: checkpoints.write(0, gathered, state))
        gathered.clear()
        for written in checkpoints.all()[0].iterdir():  # as where nobody has read it yet
            with written.open("rb") as handle:
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        timed("check, read from the disk", checkpoints.newest)
        timed("check and resume", lambda: resume(checkpoints, engine, ""))
    head = [f"{n / MB:.0f} M weights, {size / GB:.2f} GB", "s", "GB of memory beside the networks"]
    return {"checkpoint": grid(head, rows)}


if __name__ == "__main__":  # what torchrun starts
    found = on_a_rank(sys.argv[1:])
    (Path(os.environ["FOUND"]) / f"{found['rank']}").write_text(json.dumps(found))
