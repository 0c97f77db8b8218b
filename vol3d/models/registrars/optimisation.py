"""Search for a deformation between two images: gradient descent on its velocities themselves."""

import torch
from torch import Tensor

from vol3d.models.registrars.objective import Objective
from vol3d.transforms.deformation import Deformation


def optimised(
    start: Deformation,
    moving: Tensor,
    fixed: Tensor,
    objective: Objective,
    *,
    steps: int,
    lr: float = 0.1,
) -> Deformation:
    """The deformation after so many steps of Adam on its velocities.

    Args:
        start: where the search begins.
        moving: [1, C, X, Y, Z].
        fixed: likewise.
        objective: what is lowered.
        steps: of Adam.
        lr: its learning rate, in voxels of each velocity's own grid.
    """
    free = [v.detach().clone().requires_grad_() for v in start.velocities]
    optim = torch.optim.Adam(free, lr=lr)
    with torch.enable_grad():
        for _ in range(steps):
            found = Deformation(free, start.shape, start.box)
            loss = torch.stack([*objective.terms(found, moving, fixed).values()]).sum()
            optim.zero_grad()
            loss.backward()
            optim.step()
    return Deformation([v.detach() for v in free], start.shape, start.box)
