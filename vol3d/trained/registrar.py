"""A registrar: two images on one grid to the deformation between them, by a network or a search."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vol3d.bundle import Bundle
from vol3d.data.images import grids_of
from vol3d.errors import DataError
from vol3d.models.registrars.base import deformation_of
from vol3d.models.registrars.objective import Objective
from vol3d.models.registrars.optimisation import optimised
from vol3d.trained.autoencoder import channels_last
from vol3d.trained.registrar_network import RegistrarSettings, found_by
from vol3d.transforms.deformation import Deformation
from vol3d.volume import Grid

NONE = Path("none")
"""The name of the registrar that has no network."""
SEARCH_SMOOTHNESS = 8.0
"""A search wants so much more smoothness than a network, whose fields are smooth by themselves."""
COARSEST = 16
"""Without a network, velocities are found on grids from a half to this part of each axis."""


class RegistrarBundle(RegistrarSettings):
    """The config in a registrar's bundle."""

    kind: Literal["registrar"] = "registrar"
    contrasts: list[str] = []
    """The kinds of image that it was trained on."""


class Registrar:
    """Finds deformations; without a network they begin as nothing, and are found by search alone.

    Attributes:
        path: of its bundle; None without a network.
        checksum: of its bundle; None likewise.
        contrasts: the kinds of image that it was trained on (T1w); empty without a network: any.
        grids: those of the scans it was trained on, the finest first; empty likewise.
        fingerprint: of what it was trained on; empty likewise.
        quality: as measured on people held out; empty likewise.
        objective: what a search lowers; of a network, what it was trained for, with more smoothness.
    """

    path: Path | None = None
    checksum: str | None = None

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.contrasts: list[str] = []
        self.grids: list[Grid] = []
        self.fingerprint: dict[str, Any] = {}
        self.quality: dict[str, Any] = {}
        self.objective = for_search(Objective())
        self.device = torch.device(device)

    def check_grid(self, grid: Grid) -> None:
        """Whether it takes voxels of this size: any, without a network; else those that it knows.

        Raises:
            DataError: those of the grid are larger or smaller.
        """

    def __call__(self, moving: Tensor, fixed: Tensor, optimise: int = 0) -> Deformation:
        """Register two images.

        Args:
            moving: [1, 1, X, Y, Z] in [0, 1], 0 outside the brain (`vol3d.data.network_images.as_seen`);
                any shape.
            fixed: likewise, on the same grid.
            optimise: steps of search after the network's answer.
        """
        moving, fixed = (channels_last(x.to(self.device)) for x in (moving, fixed))
        found = self.first(moving, fixed)
        if optimise:
            found = optimised(found, moving, fixed, self.objective, steps=optimise)
        return found

    def first(self, moving: Tensor, fixed: Tensor) -> Deformation:
        """Where a search begins: nothing, on levels from the coarsest to half the voxels."""
        box = [n + -n % COARSEST for n in fixed.shape[2:]]
        parts = [2**k for k in range(COARSEST.bit_length() - 1, 0, -1)]  # 16, 8, 4, 2
        velocities = [fixed.new_zeros(1, 3, *(n // part for n in box)) for part in parts]
        return deformation_of(velocities, fixed.shape[2:], COARSEST)


class TrainedRegistrar(Registrar):
    """A registrar with a network."""

    def __init__(self, path: Path | str, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        bundle = Bundle(path, "registrar")
        self.path, self.checksum = bundle.path, bundle.checksum
        settings = bundle.settings(RegistrarBundle)
        self.contrasts, self.objective = settings.contrasts, for_search(settings.objective)
        self.quality, self.fingerprint = bundle.document("quality"), bundle.fingerprint()
        self.grids = grids_of(self.fingerprint)
        self.multiple = settings.model.multiple
        self.net = settings.build()
        bundle.fill(self.net)
        self.net.to(self.device, memory_format=torch.channels_last_3d).eval()

    def check_grid(self, grid: Grid) -> None:
        """See `Registrar.check_grid`."""
        if not any(np.allclose(g.spacing, grid.spacing, rtol=0.01) for g in self.grids):
            raise DataError(
                f"{self.path}: learnt from voxels of {self.grids[0].spacing} mm, these images have "
                f"{grid.spacing} mm; train one on such, or register without a network (none)"
            )

    @torch.inference_mode()
    def first(self, moving: Tensor, fixed: Tensor) -> Deformation:
        """What the network says."""
        return found_by(self.net, self.multiple, moving, fixed)


def for_search(objective: Objective) -> Objective:
    """The objective of a training as a search lowers it."""
    return objective.model_copy(
        update={"smoothness": SEARCH_SMOOTHNESS * objective.smoothness, "dice": 0.0}
    )


def open_registrar(path: Path | str, device: torch.device | str = "cpu") -> Registrar:
    """The registrar at a path: a bundle or a run; `none` has no network.

    Raises:
        ConfigError: it is no registrar.
    """
    return Registrar(device) if Path(path) == NONE else TrainedRegistrar(path, device)
