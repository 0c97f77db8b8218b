"""Quality against network calls, for all valid pairs of schedule and solver on one trained model.

    python scripts/sweep_samplers.py GENERATOR LATENTS OUT [SAMPLES]

Samples get the covariates of the held-out people, without guidance. Two measures, both of the latents:

- energy distance (Szekely and Rizzo 2013, J. Stat. Plan. Inference 143:1249) between the samples and
  all people, in standard deviations: 0 where both are drawn alike. For every solver.
- root mean square distance to the exact path from the same noise (Heun's method with 127 calls), for
  solvers that draw no noise on the way.

In bf16, which moves a sample by 0.003 standard deviations (root mean square). Writes OUT.tsv and OUT.png.
"""

import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from vol3d.data.bids_writer import write_tsv
from vol3d.data.latents import LatentImages
from vol3d.diffusion.compatibility import choices
from vol3d.io.progress import track
from vol3d.trained import TrainedGenerator

CALLS = (5, 9, 17, 33)
"""Budgets; a solver with two calls a step makes half as many steps."""
LEAST = 1e-4
"""What is drawn of an excess below it."""


def main(generator: str, latents: str, out: str, samples: str = "32") -> None:
    """Sample with every pair at every budget, measure, and draw."""
    model = TrainedGenerator(generator, sampler={"precision": "bf16"})
    people = LatentImages(Path(latents))
    scans = people.val[: int(samples)]
    rows = [
        model.complete({n: s.covariates.get(n) for n in model.schema.names}, seed)
        for seed, s in enumerate(scans)
    ]
    real = torch.stack(
        [torch.from_numpy(people.read(s)["mean"]) for s in people.train + people.val]
    )

    def sample(**sampler) -> torch.Tensor:
        asked = model.sampling({"guidance": 1.0, **sampler})
        z = []
        for i in range(0, len(rows), 8):
            some, seeds = rows[i : i + 8], list(range(i, min(i + 8, len(rows))))
            z.append(asked.draw(some, seeds, [{} for _ in some], model.grid))
        return torch.cat(z)

    exact = sample(solver={"kind": "heun"}, steps=64)
    pairs = [
        (schedule, solver)
        for schedule in choices("schedule")
        for solver in choices("solver")
        if solver.objection(schedule) is None
    ]
    found = []
    for schedule, solver in track(pairs, "sweep"):
        random = draws(solver, schedule)
        for calls in CALLS:
            steps = max(n for n in range(1, calls + 1) if solver.calls(n) <= calls)
            began = time.perf_counter()
            z = sample(schedule=schedule.dump(), solver=solver.dump(), steps=steps)
            found.append(
                {
                    "schedule": schedule.kind,
                    "solver": solver.kind,
                    "calls": solver.calls(steps),
                    "energy": round(energy_distance(z, real), 4),
                    "rmse": None if random else round(rms(z - exact), 4),
                    "seconds": round(time.perf_counter() - began, 2),
                }
            )
    print("exact path:", round(energy_distance(exact, real), 4))
    print("held-out people:", round(energy_distance(real[-len(people.val) :], real), 4))
    write_tsv(Path(out).with_suffix(".tsv"), found)
    draw(found, energy_distance(exact, real), Path(out).with_suffix(".png"))


def draws(solver, schedule) -> bool:
    """Whether a solver draws noise on the way."""
    drawn, x = [], torch.ones(1, 1, 2, 2, 2)
    solver.sample(lambda x, sigma: x / 2, x, schedule.levels(3), lambda: drawn.append(1) or x)
    return bool(drawn)


def rms(x: torch.Tensor) -> float:
    """Root mean square."""
    return float(x.square().mean().sqrt())


def energy_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """2 E|a - b| - E|a - a'| - E|b - b'| over [n, ...] and [m, ...], per root of their length."""
    a, b = a.flatten(1).double(), b.flatten(1).double()

    def within(x: torch.Tensor) -> torch.Tensor:
        return torch.cdist(x, x).sum() / (len(x) * (len(x) - 1))

    return float((2 * torch.cdist(a, b).mean() - within(a) - within(b)) / a.shape[1] ** 0.5)


def draw(found: list[dict], best: float, path: Path) -> None:
    """A row of panels a measure, a panel a schedule, a line a solver.

    The energy distance is drawn above that of the exact path, which is what a solver can reach.
    """
    found = [{**r, "energy": max(r["energy"] - best, LEAST)} for r in found]
    schedules = list(dict.fromkeys(r["schedule"] for r in found))
    solvers = list(dict.fromkeys(r["solver"] for r in found))
    figure, axes = plt.subplots(
        2, len(schedules), figsize=(2.3 * len(schedules), 5.2), sharex=True, sharey="row"
    )
    for column, schedule in enumerate(schedules):
        for solver in solvers:
            mine = [r for r in found if (r["schedule"], r["solver"]) == (schedule, solver)]
            for row, measure in enumerate(("energy", "rmse")):
                points = [(r["calls"], r[measure]) for r in mine if r[measure] is not None]
                if points:
                    color = f"C{solvers.index(solver)}"
                    axes[row, column].plot(
                        *zip(*points, strict=True), ".-", color=color, label=solver
                    )
        axes[0, column].set_title(schedule, fontsize=9)
        axes[1, column].set_xlabel("network calls", fontsize=8)
    for row, title in enumerate(("energy distance, excess", "distance to the exact path")):
        axes[row, 0].set_ylabel(title, fontsize=8)
        for axis in axes[row]:
            axis.set(xscale="log", yscale="log", xticks=CALLS, xticklabels=CALLS)
            axis.minorticks_off()
            axis.tick_params(labelsize=7)
    lines = {
        line.get_label(): line
        for axis in axes.flat
        for line in axis.get_lines()
        if line.get_label() in solvers
    }
    figure.legend(lines.values(), lines.keys(), loc="lower center", ncol=len(solvers), fontsize=8)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
