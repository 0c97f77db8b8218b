"""Seconds of CPU, on one thread, that a registrar takes on 80 x 112 x 80 voxels; and what a search finds.

python scripts/time_registrar.py          two tables as Markdown
"""

import resource
import time
from collections.abc import Callable

import torch

from vol3d.data.synthetic.person import Anatomy
from vol3d.data.synthetic.subject import make_subject
from vol3d.metrics.registration import endpoint_error, round_trip, true_displacement
from vol3d.models.registrars.base import padded
from vol3d.models.registrars.objective import Objective
from vol3d.models.registrars.optimisation import optimised
from vol3d.models.registrars.symmetric import Symmetric
from vol3d.tasks.register import compared, halved
from vol3d.trained.registrar import open_registrar
from vol3d.trained.registrar_network import found_by

SHAPE = (80, 112, 80)


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """The least of several, after one that is not counted."""
    work()
    took = []
    for _ in range(times):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took)


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, objective = Symmetric(), Objective()
    net = network.build(1).to(memory_format=torch.channels_last_3d)
    pair = torch.rand(2, 1, 1, *SHAPE).unbind()

    def answer():
        with torch.inference_mode():
            return found_by(net, network.multiple, *pair)

    def learn():
        terms = objective.terms(found_by(net, network.multiple, *pair), *pair)
        torch.stack([*terms.values()]).sum().backward()

    def learn_coarse():
        halves = [halved(x[0])[None] for x in pair]
        velocities = net(*(padded(x, network.multiple) for x in pair))
        coarse = compared(velocities, halves[0].shape[2:], network.multiple, is_coarse=True)
        torch.stack([*objective.terms(coarse, *halves).values()]).sum().backward()

    found = answer()
    one = seconds(lambda: optimised(found, *pair, objective, steps=1), 1)
    eleven = seconds(lambda: optimised(found, *pair, objective, steps=11), 1)  # 7 coarse, 4 not
    rows = {
        "the network": seconds(answer),
        "its displacement on the full grid (another for the inverse)": seconds(found.displacement),
        "a step of the search, images of half the voxels": max(eleven - 4 * one, 0) / 7,
        "a step of the search, all voxels": one,
        "a training step of one pair": seconds(learn),
        "the same, compared on images of half the voxels": seconds(learn_coarse),
    }
    print("| | s |\n|---|---|")
    for name, took in rows.items():
        print(f"| {name} | {took:.2f} |")
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB\n")

    people = [make_subject(0, i, 4.0, Anatomy()) for i in (0, 1)]
    moving, fixed = (torch.from_numpy(p.image.data / 255.0).float()[None, None] for p in people)
    truth = true_displacement(*(torch.from_numpy(p.displacement)[None] / 4 for p in people))
    print("| steps | endpoint error, voxels | round trip, voxels | s |\n|---|---|---|---|")
    for steps in (0, 10, 20, 50):
        began = time.process_time()
        T = open_registrar("none")(moving, fixed, optimise=steps)
        took = time.process_time() - began
        u = T.displacement()
        error = endpoint_error(u, truth, fixed)["endpoint_mean"]
        trip = round_trip(u, T.inverse(), fixed)["round_trip_mean"]
        print(f"| {steps} | {error:.2f} | {trip:.3f} | {took:.1f} |")


if __name__ == "__main__":
    main()
