"""A registrar: two images on one grid to the deformation between them, by a network, by search, or both."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vol3d.models.registrars.optimisation import optimised
from vol3d.transforms.deformation import Deformation
from vol3d.volume import Grid

NONE = Path("none")
"""The name of the registrar that has no network."""


class Registrar:
    """Finds deformations; with no network they begin as nothing, and are found by `optimise` alone.

    Attributes:
        path: of its bundle; None without a network.
        checksum: of its bundle; None likewise.
        contrasts: the kinds of image that it was trained on (T1w); any if empty.
        grids: those of the scans it was trained on, the finest first; any if empty.
        multiple: shapes are multiples of this, or it pads them itself (1).
        is_random: its answer depends on a seed; it never does.
    """

    path: Path | None = None
    checksum: str | None = None
    multiple = 1
    is_random = False

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.contrasts: list[str] = []
        self.grids: list[Grid] = []
        self.fingerprint: dict[str, Any] = {}
        self.quality: dict[str, Any] = {}
        self.device = torch.device(device)

    def check_grid(self, grid: Grid) -> None:
        """It takes voxels of the size that it knows; of any, without a network.

        Raises:
            DataError: those of the grid are larger or smaller.
        """

    def __call__(self, moving: Tensor, fixed: Tensor, optimise: int = 0) -> Deformation:
        """Register two images.

        Args:
            moving: [1, 1, X, Y, Z] in [0, 1], 0 outside the brain (`vol3d.data.network_images.as_seen`).
            fixed: likewise, on the same grid.
            optimise: steps of search after the network's answer.
        """
        moving, fixed = moving.to(self.device), fixed.to(self.device)
        velocities = self.velocities(moving, fixed)
        if optimise:
            velocities = optimised(velocities, moving, fixed, steps=optimise)
        return Deformation(velocities, fixed.shape[2:])

    def velocities(self, moving: Tensor, fixed: Tensor) -> list[Tensor]:
        """Where the search begins: nothing, on four levels from an eighth of each axis to a half."""
        shape = fixed.shape[2:]
        levels = [[max(1, -(-n // k)) for n in shape] for k in (8, 4, 2)]
        return [fixed.new_zeros(1, 3, *level) for level in levels]


def open_registrar(path: Path | str, device: torch.device | str = "cpu") -> Registrar:
    """The registrar at a path: a bundle or a run; `ready` comes with vol3d; `none` has no network.

    Raises:
        ConfigError: it is no registrar.
    """
    return Registrar(device)
