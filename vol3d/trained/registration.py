"""One pair of images, wherever they lie: affine first, then a deformation; one transform, read once.

Both images are seen as networks see them, on one grid in the fixed space: RAS+, the registrar's voxel
size, the fixed image's field of view. What is found there is said in mm, from points of the fixed space
to points of the moving one.
"""

import logging
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from vol3d.data.dice import dice
from vol3d.data.native_scan import NativeScan
from vol3d.data.network_images import as_seen, normalise
from vol3d.data.preparation.alignment import fit
from vol3d.data.preparation.derivatives import one_thread
from vol3d.data.preparation.qc import normalised_mutual_information
from vol3d.data.scan_checks import not_stripped
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError, DataError
from vol3d.metrics.folding import folding
from vol3d.metrics.round_trip import round_trip
from vol3d.nn.registration_losses import local_ncc
from vol3d.trained.registrar import Registrar
from vol3d.transforms.displacement import jacobian
from vol3d.transforms.overlap import overlap
from vol3d.transforms.resample import Interpolation, move_image
from vol3d.transforms.transform import affine as affine_map
from vol3d.transforms.transform import matrix_of, move_points, sampled
from vol3d.transforms.transform_file import read_transform
from vol3d.transforms.velocity_file import Flow
from vol3d.volume import Grid, Volume

log = logging.getLogger(__name__)
SPACING_MM = 2.0
"""Where neither the registrar nor a setting says a voxel size, this, or the fixed image's if larger."""
MOST_TIMES = 8
"""So many times the volume of one brain may be that of the other, by an affine map."""
FAR_MM = 500.0
"""No scanner is so large: a header that puts one brain so far from the other is wrong."""
POOR_DICE = 0.75
"""Brains whose masks overlap less after the affine map are told."""
EVERY = 499
"""One in so many voxels of a brain stands for it where only its place is asked for."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two images.

    Attributes:
        visit: its files.
        scan: as it was read.
        contrast: which of its images is looked at.
    """

    visit: Visit
    scan: NativeScan
    contrast: str

    @classmethod
    def read(cls, visit: Visit, contrast: str) -> "Side":
        """Read the image, 0 outside its brain mask.

        Raises:
            DataError: it is not as it should be.
        """
        return cls.of(visit, NativeScan.read(visit, [contrast]), contrast)

    @classmethod
    def of(cls, visit: Visit, scan: NativeScan, contrast: str) -> "Side":
        """The same of a scan that was read; warns where it is no stripped brain."""
        side = cls(visit, scan, contrast)
        if why := not_stripped(side.brain):
            log.warning("warning: %s: %s", side.path, why)
        return side

    @property
    def path(self) -> Path:
        """The image."""
        return self.visit.images[self.contrast]

    @property
    def brain(self) -> Volume:
        """In RAS+, 0 outside the brain."""
        return self.scan.brains[self.contrast]

    @property
    def mask(self) -> Volume:
        """Where the brain is."""
        return Volume(self.brain.data > 0, self.brain.affine)

    def points(self) -> np.ndarray:
        """Some points of the brain, [n, 3] mm, RAS+."""
        index = np.argwhere(self.brain.data > 0)
        index = index[:: max(1, min(EVERY, len(index) // 1000))]
        return index @ self.brain.affine[:3, :3].T + self.brain.affine[:3, 3]


@dataclass(frozen=True, eq=False)
class Registration:
    """What was found between two images.

    Attributes:
        moving, fixed: the images.
        flow: the deformation on the common grid and the affine map after it.
    """

    moving: Side
    fixed: Side
    flow: Flow

    @cached_property
    def transform(self) -> sitk.Transform:
        """From points of the fixed space to points of the moving one."""
        return self.flow.at(1.0)

    @cached_property
    def inverse(self) -> sitk.Transform:
        """The way back, by the flow's own inverse."""
        return self.flow.back(1.0)

    @property
    def grid(self) -> Grid:
        """On which the deformation lies."""
        return self.flow.grid

    def registered(self, interpolation: Interpolation = "linear") -> Volume:
        """The moving brain on the fixed image's grid, in RAS+; read once."""
        return move_image(self.moving.brain, self.transform, self.fixed.brain.grid, interpolation)

    @cached_property
    def jacobian(self) -> Volume:
        """How many times larger the moving tissue is than the fixed, the affine map's part included.

        On the fixed image's grid, in RAS+.
        """
        det = jacobian(sampled(self.transform, self.grid), self.grid)
        there = Volume(det.astype(np.float32), self.grid.affine)
        return move_image(there, sitk.Transform(), self.fixed.brain.grid)

    @property
    def inside(self) -> np.ndarray:
        """The fixed brain on the common grid, [X, Y, Z] bool."""
        return as_seen(self.fixed.brain, self.grid).data > 0

    def measures(self) -> dict[str, dict]:
        """How alike the images are before, after the affine map, and after all; folding; the way back."""
        seen, inside = as_seen(self.fixed.brain, self.grid).data, self.inside
        ways = {"before": sitk.Transform(), "affine": self.flow.affine, "after": self.transform}
        moved = {
            name: normalise(move_image(self.moving.brain, T, self.grid).data)
            for name, T in ways.items()
        }
        u = self.flow.displacement(1.0)
        return {
            "Similarity": {name: likeness(seen, x, inside) for name, x in moved.items()},
            "Folding": rounded(folding(u, self.grid, inside)),
            "RoundTrip": rounded(round_trip(self.transform, self.inverse, self.grid, inside)),
        }


def likeness(fixed: np.ndarray, moved: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """In the fixed brain: mean squared local correlation (9^3 voxels), and NMI, 1 unrelated, 2 the same.

    Args:
        fixed: [X, Y, Z] in [0, 1].
        moved: likewise.
        inside: [X, Y, Z] bool.
    """
    a, b = (torch.from_numpy(x)[None, None] for x in (fixed, moved))
    ncc = local_ncc(a, b)[0, 0].numpy()[inside].mean()
    nmi = normalised_mutual_information(fixed[inside], moved[inside])
    return rounded({"local_ncc": float(ncc), "nmi": nmi})


def rounded(numbers: dict[str, float]) -> dict[str, float]:
    """Six digits say enough."""
    return {name: float(f"{value:.6g}") for name, value in numbers.items()}


def register(
    moving: Side,
    fixed: Side,
    registrar: Registrar,
    *,
    optimise: int,
    affine: bool | Path,
    spacing: float | None = None,
) -> Registration:
    """Find the way between two images.

    Args:
        moving: is brought onto the fixed image.
        fixed: stays.
        registrar: finds the deformation.
        optimise: its steps of search.
        affine: whether an affine map is looked for first; or the file of one.
        spacing: voxel size in mm; the registrar's own, if not given.

    Raises:
        DataError: the images lie far apart, or the registrar has not learnt from such voxels.
    """
    grid = common_grid(fixed.brain.grid, registrar, spacing)
    registrar.check_grid(grid)
    matrix = aligned(moving, fixed, affine)
    seen = as_seen(fixed.brain, grid).data
    moved = normalise(moving.brain.resample(grid, affine_map(matrix)).data)
    if (overlapping := dice(moved > 0, seen > 0)) < POOR_DICE:
        log.warning(
            "warning: %s: after the affine map its brain and that of %s overlap by a Dice of %.2f only; "
            "look at the picture",
            *(moving.path, fixed.path.name, overlapping),
        )
    pair = (torch.from_numpy(np.ascontiguousarray(x))[None, None] for x in (moved, seen))
    return Registration(moving, fixed, Flow(registrar(*pair, optimise=optimise), grid, matrix))


def common_grid(fixed: Grid, registrar: Registrar, spacing: float | None) -> Grid:
    """The fixed image's field of view, in RAS+, in voxels of the registrar's size.

    Raises:
        ConfigError: such a voxel is larger than the image.
    """
    known = registrar.grids[0].spacing if registrar.grids else [max(SPACING_MM, *fixed.spacing)] * 3
    wanted = np.array([spacing] * 3 if spacing else known)
    if np.allclose(wanted, fixed.spacing, rtol=1e-3):
        return fixed
    extent = np.array(fixed.shape) * fixed.spacing / wanted
    if extent.min() < 0.5:
        whose = "" if spacing else " (the registrar's own; spacing= takes another)"
        raise ConfigError(
            f"spacing: voxels of {wanted.max():g} mm{whose} are larger than the fixed image, {fixed}"
        )
    return Grid(tuple(ceil(n - 1e-3) for n in extent), fixed.at(wanted).affine)  # all of it is in


def aligned(moving: Side, fixed: Side, affine: bool | Path) -> np.ndarray:
    """The affine map [4, 4] mm, RAS+, from the fixed space to the moving one.

    Raises:
        ConfigError, DataError: the file holds another transform; the brains lie far apart, or without an
            affine map nothing of one lies in the other.
    """
    if affine is True:
        apart = overlap(fixed.points(), moving.brain.grid)
        if apart.gap_mm > FAR_MM:
            raise DataError(
                f"{moving.path}: lies {apart.gap_mm:.0f} mm away from {fixed.path}, further than a "
                f"scanner is wide: one of the headers is wrong; mend it, or export the scan again"
            )
        return found_affine(moving, fixed)
    T = sitk.Transform() if affine is False else read_affine(affine)
    met = overlap(move_points(T, fixed.points()), moving.brain.grid)
    if not met.share:
        raise DataError(
            f"{moving.path}: lies {met.gap_mm:.0f} mm away from the brain of {fixed.path}; let an affine "
            f"map be found (affine=true), or name the file of one (affine=FILE)"
        )
    return matrix_of(T)


def found_affine(moving: Side, fixed: Side) -> np.ndarray:
    """The affine map [4, 4] mm, RAS+, as `fit` finds it, the same each time.

    Raises:
        DataError: it finds none, or none of two brains.
    """
    remedy = "strip both (vol3d prepare), or give brain masks"
    try:
        with one_thread():
            matrix = matrix_of(fit(moving.brain, moving.mask, fixed.brain, fixed.mask))
    except RuntimeError:  # of ITK: no air around the fixed brain, or nothing in common
        raise DataError(
            f"{moving.path}: no affine map onto {fixed.path} is found; {remedy}"
        ) from None
    if why := why_no_brains(matrix):
        raise DataError(f"{moving.path}: the affine map found onto {fixed.path} {why}; {remedy}")
    return matrix


def why_no_brains(matrix: np.ndarray) -> str:
    """Why an affine map [4, 4] is none between two brains, in words; empty where it may be one."""
    size = float(np.linalg.det(matrix[:3, :3]))
    if 1 / MOST_TIMES <= size <= MOST_TIMES:
        return ""
    mirrored = ", and exchanges left and right" if size < 0 else ""
    return f"makes volumes {size:.3g} times as large{mirrored}, as no two brains differ"


def read_affine(path: Path) -> sitk.Transform:
    """The affine map of a file, from points of the fixed space to points of the moving one.

    Raises:
        ConfigError: it holds another transform, or none of two brains.
        DataError: no such file, or it holds no transform.
    """
    T = read_transform(path)
    if not T.IsLinear():
        raise ConfigError(f"affine={path}: is no affine map; that of a .mat, .txt or .tfm is due")
    if why := why_no_brains(matrix_of(T)):
        raise ConfigError(f"affine={path}: {why}; ITK's files are due, in mm and LPS+")
    return T
