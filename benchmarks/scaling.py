"""What several processes cost and save: the tables of docs/scaling.md.

    python -m benchmarks.scaling computed     memory and time of sending, for each engine and number of GPUs
    python -m benchmarks.scaling memory       what an update holds and sends, measured on the CPU
    python -m benchmarks.scaling checkpoint   writing, checking and reading back a large checkpoint
    python -m benchmarks.scaling waiting RUN ...   how long the updates of runs waited for their images

With `--into docs/scaling.md` the parts of the page that are the tables' are replaced.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.plan import HONEST, begin, peak
from benchmarks.table import NONE, grid, put
from vol3d.cli import fill
from vol3d.errors import ConfigError
from vol3d.ranks import Ranks, joined
from vol3d.tasks.base import Job
from vol3d.training.checkpoint import Checkpoints
from vol3d.training.engine import PLAIN, Engine, device_of
from vol3d.training.engines import DeepSpeed, EngineKind
from vol3d.training.loop import engine_of, read_log, resume, save, update
from vol3d.training.planner import changed, imagine, of_one_rank
from vol3d.training.rates import NOMINAL
from vol3d.training.rehearsal import (
    Cost,
    Ledger,
    imagine_batch,
    largest_draw,
    rehearse,
    spared_by,
    stage,
    tensors,
)
from vol3d.training.room import GIB, need_of
from vol3d.verbs.plan import Plan

ENGINES: dict[str, EngineKind] = {"data parallel": PLAIN} | {
    f"ZeRO {stage}": DeepSpeed(stage=stage) for stage in (1, 2, 3)
}
GPUS = (1, 2, 4, 8, 16, 32, 64)
CONFIGS = {
    "brain1mm/diffusion.yaml": "shape=[3,20,28,20]",
    "brain1mm/autoencoder.yaml": "shape=[160,224,160] data.kind=bids data.path=none",
    "ixi2mm/diffusion.yaml": "shape=[3,20,28,20]",
}
LINKS = {"10 Gb/s": 1.25e9, "100 Gb/s": 12.5e9, "PCIe 4": 25e9, "NVLink": 300e9}
"""Bytes a second each way."""
SMALL = (
    "configs/ixi2mm/diffusion.yaml shape=[3,8,8,8] batch=4 precision=fp32 device=cpu "
    "task.model.num_res_blocks=2 task.model.norm_groups=32"
)
WIDTHS = ("[64,96,160]", "[96,192,288]", "[192,384,480]")
GB, MB = 1e9, 1e6


# -- computed -------------------------------------------------------------------------------------


def computed() -> dict[str, str]:
    """A table of memory and one of sending for each configuration."""
    out = {}
    for name, words in CONFIGS.items():
        training = fill("plan", Plan, [f"configs/{name}", *shlex.split(words)])
        out[f"memory {name}"] = memory_table(training)
        out[f"sending {name}"] = sending_table(training)
    return out


def shared_out(training: Plan, world: int) -> Plan:
    """One rank's training; from one image a rank on the batch grows with the ranks."""
    batch = max(training.batch, world)
    return of_one_rank(changed(training, {"batch": batch}), Ranks(world=world))


def memory_table(training: Plan) -> str:
    """GiB that each GPU must have free."""
    now = training.task.model.checkpointing
    rows = []
    for checkpointing in (now, not now):
        told = "" if checkpointing == now else f", checkpointing={str(checkpointing).lower()}"
        for name, kind in ENGINES.items():
            cells = [f"{name}{told}"]
            for world in GPUS:
                mine = shared_out(training, world)
                mine = changed(mine, {"task.model.checkpointing": checkpointing})
                try:
                    cells.append(f"{need_of(planned(mine, kind, world), 'cuda') / GIB:.1f}")
                except ConfigError:
                    cells.append("refused")
            rows.append(cells)
    ranks = [shared_out(training, world) for world in GPUS]
    batch = ["batch", *(str(t.batch * w) for t, w in zip(ranks, GPUS, strict=True))]
    passes = ["images a pass", *(str(t.micro_batch or t.batch) for t in ranks)]
    return grid(["GPUs", *map(str, GPUS)], [batch, passes, *rows])


def planned(training: Plan, kind: EngineKind, world: int) -> Cost:
    """What `rehearse` says of this engine and number of ranks."""
    plain, job = rehearsed(json.dumps(training.dump()))
    kind.check(job)
    spared = spared_by(kind, job, world)
    return replace(plain, step=plain.step - spared, look=plain.look - spared)


@cache
def rehearsed(settings: str) -> tuple[Cost, Job]:
    """The rehearsal on one GPU that need not be at hand, which is the dear part; and its job."""
    training = Plan.parse(json.loads(settings))
    imagined, gpu = imagine(training, training.shape), torch.device("cuda")
    with stage(gpu):
        job = training.task.rehearsal(imagined)
    return rehearse(training, imagined, gpu), job


def sending_table(training: Plan) -> str:
    """Bytes that a rank sends for an update, and what share of its time that is without overlap."""
    rows = []
    for world in GPUS[1:]:
        mine = shared_out(training, world)
        cost, job = rehearsed(json.dumps(mine.dump()))
        n = sum(p.numel() for net in job.nets.values() for p in net.parameters())
        passes = mine.batch // (mine.micro_batch or mine.batch)
        seconds = NOMINAL.seconds(cost)
        for name, kind in ENGINES.items():
            try:
                kind.check(job)
            except ConfigError:
                continue
            sent = 4.0 * n * psi(getattr(kind, "stage", 0), passes) * (world - 1) / world
            shares = (sent / rate / (sent / rate + seconds) for rate in LINKS.values())
            cells = [f"{world}", name, f"{sent / GB:.2f}", f"{seconds:.2f}"]
            rows.append([*cells, *(f"{share:.0%}" for share in shares)])
    return grid(["GPUs", "engine", "GB sent", "s of computing", *LINKS], rows)


def psi(stage: int, passes: int) -> int:
    """How many times its weights a rank sends for an update, by a ring, but for a factor (w - 1) / w."""
    return {0: 2, 1: 2, 2: 1 + passes, 3: 3 * passes}[stage]


# -- measured -------------------------------------------------------------------------------------


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
        imagined = imagine(training, training.shape)
        planned = rehearse(mine, imagined, device, ranks.world)
        warm_up(training, ranks)
        before = begin(device)
        with Account() as account:
            job = training.task.rehearsal(imagined)
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
        n = sum(p.numel() for p in job.nets.values() for p in p.parameters())
        began = time.monotonic()
        engine.tensors()
        return {
            "rank": ranks.rank,
            "n": n,
            "built": built,
            "step": step,
            "resident": resident,
            "lasting": lasting,
            "look": look,
            "planned": planned.step,
            "planned_look": planned.look,
            "gather_s": time.monotonic() - began,
            "sent": sent,
        }


def one_update(job: Job, training: Plan, engine: Engine, world: int) -> None:
    """An update of this rank's share of a batch of nothing in particular."""
    drawn = largest_draw(job)
    told = imagine_batch(job, training, drawn, training.batch)
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
            [*start, f"--nproc-per-node={world}", "-m", "benchmarks.scaling", "rank", *words],
            env={**os.environ, **HONEST, "FOUND": folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return [json.loads(file.read_text()) for file in sorted(Path(folder).iterdir())]


def memory() -> dict[str, str]:
    """Computed and measured, for networks smaller and larger than what DeepSpeed sends at a time."""
    rows, traffic = [], []
    for width in WIDTHS:
        for world in (1, 2, 4)[: 3 if width != WIDTHS[-1] else 2]:
            for name, kind in ENGINES.items():
                words = [*shlex.split(SMALL), f"task.model.channels={width}", f"engine={told(kind)}"]
                ranks = torchrun(world, words)
                worst = max(ranks, key=lambda r: r["step"])
                n = worst["n"]
                sizes = (worst[k] for k in ("planned", "step", "resident", "lasting"))
                ratio = worst["planned"] / worst["step"]
                look = max(r["look"] for r in ranks)
                cells = [f"{n / MB:.0f} M", name, f"{world}", *(f"{x / MB:.0f}" for x in sizes)]
                rows.append([*cells, f"{look / MB:.0f}", f"{ratio:.2f}", f"{worst['gather_s']:.1f}"])
                sent = ", ".join(f"{k} {v / 4 / n:.2f}" for k, v in worst["sent"].items())
                traffic.append([*cells[:3], sent or NONE])
                print("|", " | ".join(rows[-1]), "|", sent, "|", f"built {worst['built'] / 4 / n:.2f} n; step {worst['step'] / 4 / n:.3f} lasting {worst['lasting'] / 4 / n:.3f} look {look / 4 / n:.3f}", flush=True)
    head = ["weights", "engine", "processes", "computed", "measured", "resident", "between updates"]
    return {
        "memory on the CPU": grid([*head, "look", "computed / measured", "s to gather"], rows),
        "collectives": grid([*head[:3], "handed over, in units of the weights"], traffic),
    }


def told(kind: EngineKind) -> str:
    """An engine in words."""
    return "{" + ", ".join(f"{k}: {v}" for k, v in kind.dump().items() if k != "overlap") + "}"


if __name__ == "__main__":
    if sys.argv[1] == "rank":
        found = on_a_rank(sys.argv[2:])
        (Path(os.environ["FOUND"]) / f"{found['rank']}").write_text(json.dumps(found))
    elif sys.argv[1] == "computed":
        for k, v in computed().items():
            print(k, v, sep="\n\n")
    else:
        memory()
