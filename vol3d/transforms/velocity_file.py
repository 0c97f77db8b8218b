"""Velocities as files: from them a registration is any part of its way, not its end alone.

A transform .h5 holds where each point ends. Of a flow, half the way is not half the displacement: points
go along curves, and straight lines between their ends may fold. Beside a transform that `vol3d register`
made lie the velocities of its flow (.safetensors) with the affine map that follows; scaled by t they are
the way up to t, exactly, and without folding (Kim and Ye 2022, MICCAI, arXiv:2206.13295, do so between
two phases of the heart).
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from safetensors import safe_open
from safetensors.torch import save
from scipy.linalg import expm, logm

from vol3d.errors import DataError
from vol3d.io.files import whole
from vol3d.io.reading import understood
from vol3d.transforms.deformation import Deformation
from vol3d.transforms.displacement import to_mm
from vol3d.transforms.transform import affine, chain, field
from vol3d.volume import Grid

ENDING = ".safetensors"
ABOUT = "registration"


@dataclass(frozen=True, eq=False)
class Flow:
    """A registration that can be followed part of the way: a deformation, then an affine map.

    Attributes:
        deformation: in voxels of `grid`.
        grid: in the fixed space, RAS+.
        matrix: [4, 4] mm, RAS+, of the affine map from there to the moving space.
    """

    deformation: Deformation
    grid: Grid
    matrix: np.ndarray

    @property
    def affine(self) -> sitk.AffineTransform:
        """The affine map alone."""
        return affine(self.matrix)

    def at(self, t: float = 1.0) -> sitk.Transform:
        """The transform up to t, from points of the fixed space towards the moving one.

        With 0 nothing moves, 1 is the whole registration. Both parts go on evenly: velocities times t,
        and the affine map to the power of t.
        """
        return chain([field(self.displacement(t), self.grid), affine(self.power(t))])

    def back(self, t: float = 1.0) -> sitk.Transform:
        """The inverse of `at(t)`."""
        return chain([affine(self.power(-t)), field(self.displacement(-t), self.grid)])

    def displacement(self, t: float = 1.0) -> np.ndarray:
        """Of the deformation alone, [3, X, Y, Z] mm, RAS+; negative t leads back."""
        if abs(t) != 1:
            return self.moved(t)
        return self.forward if t == 1 else self.backward

    @cached_property
    def forward(self) -> np.ndarray:
        """The whole displacement, which is asked for again and again."""
        return self.moved(1.0)

    @cached_property
    def backward(self) -> np.ndarray:
        """Its inverse."""
        return self.moved(-1.0)

    def moved(self, t: float) -> np.ndarray:
        """See `displacement`."""
        with torch.inference_mode():
            u = self.deformation.displacement(t)[0].cpu().numpy()
        return to_mm(u.astype(np.float64), self.grid)

    def power(self, t: float) -> np.ndarray:
        """The affine map to the power of t."""
        if abs(t) == 1:
            return self.matrix if t == 1 else np.linalg.inv(self.matrix)
        return expm(t * logm(self.matrix).real)


def velocities_beside(transform: Path) -> Path:
    """The file of the velocities that belong to a transform."""
    return transform.with_suffix(ENDING)


def velocities_of(transform: Path) -> tuple[Path, bool]:
    """The velocities from which a transform can be told, and whether it is their way back.

    A way back, from-B_to-A, has none of its own: it is that of its sibling, from-A_to-B, with the sign
    of time turned.
    """
    own = velocities_beside(transform)
    sibling = own.with_name(re.sub(r"from-([^_]+)_to-([^_]+)", r"from-\2_to-\1", own.name))
    if not own.is_file() and sibling.is_file():
        return sibling, True
    return own, False


def write_flow(path: Path, flow: Flow) -> None:
    """Write velocities and what they need, whole or not at all."""
    told = {
        "shape": flow.deformation.shape,
        "box": flow.deformation.box,
        "affine": flow.grid.affine.tolist(),
        "matrix": flow.matrix.tolist(),
        "units": "voxels of its own grid per unit time; each grid fills `box`, voxels of `affine`",
    }
    velocities = {
        f"velocity{i}": v[0].cpu().contiguous()
        for i, v in enumerate(flow.deformation.velocities, 1)
    }
    with whole(path) as part:
        part.write_bytes(save(velocities, {ABOUT: json.dumps(told)}))


def read_flow(path: Path) -> Flow:
    """Read what `write_flow` wrote.

    Raises:
        DataError: no such file, or it holds something else.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: no such velocities; the way between two images is kept by vol3d register, "
            f"beside its transform, and cannot be told from a transform alone"
        )
    with understood(path), safe_open(path, "pt") as file:
        told = json.loads(file.metadata()[ABOUT])
        velocities = [file.get_tensor(f"velocity{i + 1}")[None] for i in range(len(file.keys()))]
        if not all(bool(v.isfinite().all()) for v in velocities):
            raise ValueError("has velocities that are NaN or infinite")
        deformation = Deformation(velocities, tuple(told["shape"]), tuple(told["box"]))
        grid = Grid(tuple(told["shape"]), np.array(told["affine"]))
        return Flow(deformation, grid, np.array(told["matrix"]).reshape(4, 4))
