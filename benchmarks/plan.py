"""How right the planner is: predicted against measured peaks, each measured in a process of its own.

    python benchmarks/plan.py            the configurations that calibrated nothing
    python benchmarks/plan.py calibrate  the others, and the constants that they suggest
    python benchmarks/plan.py measure CONFIG.yaml key=value ...   one, as JSON

Two peaks are compared: that of an update, and that while validation people are looked at. On the CPU
a peak is the high-water mark of resident memory less what was resident before the job was built, on
a GPU it is that of torch's allocator. Add device=cuda:0 for a GPU.
"""

import gc
import json
import os
import shlex
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from vol3d.cli import fill
from vol3d.nn.blocks import ResBlock
from vol3d.nn.optim import Optim
from vol3d.nn.slab_layers import laid
from vol3d.nn.slab_volume import Slabbed
from vol3d.training.cost_estimate import estimate_cost, fake_batch, largest_draw
from vol3d.training.device_memory import OVERHEADS, peak_of
from vol3d.training.engine import Engine, device_of
from vol3d.training.loop import engine_of, update
from vol3d.training.planner import fake_data
from vol3d.verbs.plan import Plan

AUTOENCODER = "configs/ixi2mm/autoencoder.yaml data.kind=bids data.path=none"
VQGAN = AUTOENCODER.replace("autoencoder", "vqgan")
SEGMENTER = AUTOENCODER.replace("autoencoder", "segmenter")
DIFFUSION = "configs/ixi2mm/diffusion.yaml"
CALIBRATION = (
    f"{AUTOENCODER} shape=[80,112,80]",
    f"{AUTOENCODER} shape=[112,144,112]",
    f"{AUTOENCODER} shape=[80,112,80] precision=fp32 task.model.checkpointing=true",
    f"{VQGAN} shape=[80,112,80] precision=fp32",
    f"{DIFFUSION} shape=[8,20,28,20] batch=4",
)
HELD_OUT = (
    f"{AUTOENCODER} shape=[96,96,96] task.model.channels=[32,64,64] task.model.patch=1"
    " task.model.upsampling=repeat task.adversarial.weight=0",
    f"{AUTOENCODER} shape=[160,224,160] task.patch=[96,96,96] batch=4 micro_batch=2"
    " task.model.checkpointing=true",
    f"{VQGAN} shape=[128,128,128]",
    f"{DIFFUSION} shape=[8,40,56,40] batch=2 micro_batch=1 task.model.checkpointing=true",
    f"{DIFFUSION} shape=[4,32,32,32] batch=4 task.model.modulation=add precision=fp32"
    " 'task.conditions={tokens: {kind: tokens}}'",
    f"{DIFFUSION} shape=[8,20,28,20] batch=8 'task.model={{kind: dit, patch: 2}}'",
    f"{SEGMENTER} shape=[128,160,128]",
)
HONEST = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""glibc keeps freed blocks below a threshold that it raises as it goes; fixed and low, they go back to
the system at once, and resident memory is what is in use."""
MB = 1e6


def in_child(words: list[str]) -> dict:
    """Measure in a fresh process."""
    ran = subprocess.run(
        [sys.executable, __file__, "measure", *words],
        env={**os.environ, **HONEST},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout.splitlines()[-1])


def measure(words: list[str]) -> dict:
    """Rehearse a training, then make three updates for real."""
    training = fill("plan", Plan, words)
    device = device_of(training.device)
    fake = fake_data(training, training.shape)
    cost = estimate_cost(training, fake, device)
    warm_up(device, training.precision)
    before = begin(device)
    job = training.task.fake_job(fake)
    engine = engine_of(job, training, device)
    drawn = largest_draw(job)
    images = [
        {k: torch.rand(t.shape).to(t.dtype) for k, t in drawn.items()}
        for _ in range(2 * training.batch)  # this batch and the next, as in training
    ]
    for _ in range(3):
        told = fake_batch(job, training, drawn, training.batch)
        batch = replace(told, drawn=images[: training.batch])
        update(job, training, engine, batch)
    step = peak(device) - before
    begin(device)
    job.validate(engine)
    beside = peak_of(cost, device.type) - cost.peak
    return {
        "step": {"predicted": cost.step + beside, "measured": step},
        "validation": {"predicted": cost.validation + beside, "measured": peak(device) - before},
        "tensors": cost.step,
        "largest": cost.largest,
    }


def warm_up(device: torch.device, precision: str) -> None:
    """A small training, so that what libraries load at their first use is there before."""
    net = {"net": torch.nn.Conv3d(1, 8, 3)}
    engine = Engine(
        net, {"net": Optim()}, averaged=["net"], ema_halflife=1, device=device, precision=precision
    )
    for _ in range(2):
        with engine.autocast():
            y = engine.nets["net"](torch.rand(1, 1, 9, 9, 9, device=device))
        engine.backward("net", {"loss": y.float().mean()}, 1.0)
        engine.step(share=0.5, nimg=0, names=[])
        engine.average(1, 1)
    # Compiled kernels, of both passes: in float32 they are for what is not small.
    block, x = ResBlock(64, 64, groups=8), torch.rand(1, 64, 20, 21, 21, device=device)
    with engine.autocast():
        block.to(device)(x).float().sum().backward()
        with torch.no_grad():
            dtype = torch.bfloat16 if engine.precision == "bf16" else torch.float32
            block(Slabbed.of(laid(x, dtype), [(0, 20)], measured=True))


def begin(device: torch.device) -> float:
    """Forget the peak so far; the bytes in use now."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return float(torch.cuda.memory_allocated(device))
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak(device: torch.device) -> float:
    """The most bytes since `begin`."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return status("VmHWM")


def status(key: str) -> float:
    """A line of Linux's account of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(key))


def compare(configurations: tuple[str, ...], more: list[str]) -> list[dict]:
    """Print predicted and measured peaks and their ratio, two lines each."""
    found = []
    print("what  predicted MB  measured MB  ratio  configuration")
    for words in configurations:
        found.append(in_child([*shlex.split(words), *more]))
        told = words.removeprefix("configs/").replace(" data.kind=bids data.path=none", "")
        for what in ("step", "validation"):
            predicted, measured = (found[-1][what][k] for k in ("predicted", "measured"))
            line = f"{predicted / MB:12.0f} {measured / MB:12.0f} {predicted / measured:6.2f}"
            print(f"{what}  {line}  {told}", flush=True)
    return found


def main(words: list[str]) -> None:
    """What the words ask for."""
    if words[:1] == ["measure"]:
        print(json.dumps(measure(words[1:])))
    elif words[:1] == ["calibrate"]:
        rest = [
            (m["step"]["measured"] - m["tensors"], m["largest"])
            for m in compare(CALIBRATION, words[1:])
        ]
        slope, at_none = statistics.linear_regression([x for _, x in rest], [y for y, _ in rest])
        alone = statistics.mean(y for y, _ in rest)
        print(
            f"fixed {alone / MB:.0f} MB alone, or {at_none / MB:.0f} MB and workspace {slope:.2f}"
        )
        print(f"now: {OVERHEADS}")
    else:
        compare(HELD_OUT, words)


if __name__ == "__main__":
    main(sys.argv[1:])
