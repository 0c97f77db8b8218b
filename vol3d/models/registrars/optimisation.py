"""Search for a deformation between two images: gradient descent on its velocities themselves."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, pad

from vol3d.models.registrars.objective import Objective
from vol3d.transforms.deformation import Deformation

STEP_VOXELS = 0.6
"""The first step of each velocity, in voxels of the images, whatever its own grid; then evenly less."""
BETAS = (0.8, 0.9)
"""Of Adam. A search of few steps has no use for a longer memory."""
FEW = 40
"""After a network, a search of fewer steps takes smaller ones: it has less to find than to lose."""
COARSE = 0.7
"""The share of the steps that see images of half the voxels, for an eighth of the time, where nothing is
known of the deformation yet. What is known would lose its detail there."""


def optimised(
    start: Deformation, moving: Tensor, fixed: Tensor, objective: Objective, *, steps: int
) -> Deformation:
    """The deformation after so many steps of Adam on its velocities.

    They lower the objective of one way, then of the way back, in turn: both ways are of the same
    velocities, and a step of one takes half the time. A search from nothing begins with images of
    half the voxels, where velocities on the finest grid stay as they are.

    Args:
        start: where the search begins.
        moving: [1, C, X, Y, Z].
        fixed: likewise.
        objective: what is lowered.
        steps: of Adam.
    """
    with torch.inference_mode(False), torch.enable_grad():
        return searched(start, moving.clone(), fixed.clone(), objective, steps)


def searched(
    start: Deformation, moving: Tensor, fixed: Tensor, objective: Objective, steps: int
) -> Deformation:
    """The same, where gradients are kept."""
    box = start.box
    around = [n for i in (2, 1, 0) for n in (0, box[i] - start.shape[i])]
    images = [pad(x, around) for x in (moving, fixed)]
    halves = [avg_pool3d(x, 2) for x in images]
    free = [v.detach().clone() for v in start.velocities]
    from_nothing = not any(v.any() for v in free)
    longest = STEP_VOXELS * (1 if from_nothing else min(1, steps / FEW))
    rates = [longest * v.shape[2] / box[0] for v in free]
    optim = torch.optim.Adam([{"params": [v]} for v in free], betas=BETAS)
    coarse_steps = COARSE * steps - 1 if from_nothing else 0
    for step in range(steps):
        is_coarse = step < coarse_steps
        ways = halves if is_coarse else images
        for v in free:  # of a single velocity, as of the coarsest, there is no coarser one
            v.requires_grad_(not is_coarse or 4 * v.shape[2] <= box[0] or v is free[0])
        moves = [v for v in free if v.requires_grad or v.any()]
        found = Deformation(moves, ways[0].shape[2:])
        sign, (source, target) = (-1, ways[::-1]) if step % 2 else (1, ways)
        u = found.displacement(sign)
        loss = torch.stack([*objective.way(u, source, target).values()]).sum()
        optim.zero_grad()
        loss.backward()
        for group, rate in zip(optim.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - step / steps)
        optim.step()
    return Deformation([v.detach() for v in free], start.shape, box)
