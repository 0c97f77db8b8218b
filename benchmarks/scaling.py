"""What several processes cost and save: the tables of docs/scaling.md.

    python -m benchmarks.scaling computed         memory and sending, for each engine and number of GPUs
    python -m benchmarks.scaling memory           what an update holds and sends, measured on the CPU
    python -m benchmarks.scaling checkpoint       writing, checking and reading back a large checkpoint
    python -m benchmarks.scaling waiting RUN ...  how long the updates of runs waited for their images

With `--into docs/scaling.md` the parts of the page that are the tables' are replaced.
"""

import argparse
import json
import shlex
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.on_ranks import ENGINES, GB, checkpoint, memory
from benchmarks.table import grid, put
from vol3d.cli import fill
from vol3d.distributed.ranks import BUCKET, Ranks
from vol3d.errors import ConfigError
from vol3d.tasks.job import Job
from vol3d.training.cost_estimate import Cost, estimate_cost, spared_by, stage
from vol3d.training.device_memory import GIB, need_of
from vol3d.training.engines import EngineKind
from vol3d.training.memory_check import of_one_rank
from vol3d.training.planner import changed, fake_data
from vol3d.training.throughput import NOMINAL
from vol3d.verbs.plan import Plan

GPUS = (1, 2, 4, 8, 16, 32, 64)
CONFIGS = {
    "brain1mm/diffusion.yaml": "shape=[3,20,28,20]",
    "brain1mm/autoencoder.yaml": "shape=[160,224,160] data.kind=bids data.path=none",
    "ixi2mm/diffusion.yaml": "shape=[3,20,28,20]",
}
LINKS = {"10 Gb/s": 1.25e9, "100 Gb/s": 12.5e9, "PCIe 4": 25e9, "NVLink": 300e9}
"""Bytes a second each way."""


def computed() -> dict[str, str]:
    """A table of memory and one of sending for each configuration."""
    out = {}
    for name, words in CONFIGS.items():
        asked = ["precision=bf16", *shlex.split(words)]  # whatever this machine has
        training = fill("plan", Plan, [f"configs/{name}", *asked])
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
    """What `estimate_cost` says of this engine and number of ranks."""
    plain, job = estimated(json.dumps(training.dump()))
    kind.check(job)
    at_step, between = spared_by(kind, job, world)
    return replace(plain, step=plain.step - at_step, validation=plain.validation - between)


@cache
def estimated(settings: str) -> tuple[Cost, Job]:
    """The estimate on one GPU that need not be at hand, which is the dear part; and its job."""
    training = Plan.parse(json.loads(settings))
    fake, gpu = fake_data(training, training.shape), torch.device("cuda")
    with stage(gpu):
        job = training.task.fake_job(fake)
    return estimate_cost(training, fake, gpu), job


def sending_table(training: Plan) -> str:
    """Bytes that a rank sends for an update, and what share of its time that is without overlap."""
    rows = []
    for world in (2, 8, 64):
        mine = shared_out(training, world)
        cost, job = estimated(json.dumps(mine.dump()))
        n = sum(p.numel() for net in job.nets.values() for p in net.parameters())
        passes = mine.batch // (mine.micro_batch or mine.batch)
        ring = 4.0 * n * (world - 1) / world
        seconds = NOMINAL.seconds(cost)
        for name, kind in ENGINES.items():
            try:
                kind.check(job)
            except ConfigError:
                continue
            paper, here = (ring * times for times in sent_by(getattr(kind, "stage", 0), passes, n))
            shares = (here / rate / (here / rate + seconds) for rate in LINKS.values())
            cells = [f"{world}", name, f"{paper / GB:.2f}", f"{here / GB:.2f}", f"{seconds:.2f}"]
            rows.append([*cells, *(f"{share:.0%}" for share in shares)])
    head = ["GPUs", "engine", "GB sent, paper", "GB sent here", "s of computing"]
    return grid([*head, *LINKS], rows)


def sent_by(stage: int, passes: int, n: int) -> tuple[float, float]:
    """How many times its n weights a rank sends for an update, by a ring: in the paper, and here.

    Here gradients are added up on every rank (2) before weights are gathered (1); at stage 3 weights
    are gathered for the forward and the backward pass (2, less those that are kept in between) and
    gradients scattered (1). From stage 2 on after every pass.
    """
    kept = min(1, BUCKET / n)
    here = {0: 2, 1: 3, 2: 1 + 2 * passes, 3: (3 - kept) * passes}
    return {0: 2, 1: 2, 2: 1 + passes, 3: 3 * passes}[stage], here[stage]


def waiting(runs: list[Path]) -> dict[str, str]:
    """From the logs: seconds an update, and the share of them in which the first rank waited."""
    rows = []
    for run in runs:
        told = map(json.loads, (run / "log.jsonl").read_text().splitlines())
        lines = [x for x in told if x["event"] == "train"]
        first, last = lines[0], lines[-1]  # the first report has the start in it
        spans = pairwise(lines)
        waited = sum(b["waiting"] * (b["seconds"] - a["seconds"]) for a, b in spans)
        seconds = last["seconds"] - first["seconds"]
        images = last["nimg"] - first["nimg"]
        rows.append([run.name, f"{images / seconds:.1f}", f"{waited / seconds:.4f}"])
    return {"waiting": grid(["run", "images a second", "waiting"], rows)}


def main() -> None:
    """Make the tables that are asked for, and print them or put them into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("what", choices=["computed", "memory", "checkpoint", "waiting"])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--into", type=Path, metavar="PAGE")
    given = parser.parse_args()
    makers = {"computed": computed, "memory": memory, "checkpoint": checkpoint}
    found = waiting(given.runs) if given.what == "waiting" else makers[given.what]()
    for name, text in found.items():
        print(f"{name}\n\n{text}\n")
        if given.into:
            put(given.into, name, text)


if __name__ == "__main__":
    main()
