"""Search for a deformation between two images: gradient descent on its velocities themselves."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vol3d.nn.image_similarity import local_ncc, unevenness
from vol3d.transforms.deformation import Deformation
from vol3d.transforms.warp import warp


def optimised(
    velocities: Sequence[Tensor],
    moving: Tensor,
    fixed: Tensor,
    *,
    steps: int,
    lr: float = 0.1,
    smoothness: float = 1.0,
) -> list[Tensor]:
    """Velocities after so many steps of Adam.

    Args:
        velocities: where the search begins (see `Deformation`).
        moving: [1, C, X, Y, Z].
        fixed: likewise.
        steps: of Adam.
        lr: its learning rate, in voxels of each velocity's own grid.
        smoothness: the weight of unevenness against 1 - NCC.
    """
    free = [v.detach().clone().requires_grad_() for v in velocities]
    optim = torch.optim.Adam(free, lr=lr)
    with torch.enable_grad():
        for _ in range(steps):
            T = Deformation(free, fixed.shape[2:])
            u_moving, u_fixed = T.to_moving(), T.to_fixed()
            at_middle = warp(moving, u_moving), warp(fixed, u_fixed)
            loss = 1 - local_ncc(*at_middle).mean()
            loss = loss + smoothness * sum(unevenness(v) for v in free)
            optim.zero_grad()
            loss.backward()
            optim.step()
    return [v.detach() for v in free]
