"""What scans look like before anything is learnt from them: headers, and whether they are brains."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np

from vol3d.data.visit import Visit
from vol3d.errors import DataError
from vol3d.io.header import Header
from vol3d.volume import Grid, Volume

log = logging.getLogger(__name__)
STRIPPED_ML = 2200.0
"""If what is above 0 fills less than this, the skull is gone; a head fills twice as much."""
LEAST_AIR = 0.3
"""Of the voxels of a stripped brain more than this share is 0."""
CUT = 0.02
"""This share of the tissue may lie outside a grid before it is told."""
BELOW = 0.05
"""What is below 0 may make up this share of all values before it is told; interpolation leaves less."""
MNI = 4
"""NIfTI's code of MNI space."""
SAME_SIZE = 0.02
"""Voxel sizes that differ by less, relative to each other, are one."""
SAME_MM = 0.01
"""Voxels that are closer than this lie in the same place."""
PREPARE = "vol3d prepare makes aligned brains of raw scans"


def tell_headers(headers: list[Header]) -> None:
    """Warn of what is in doubt, once for each reason."""
    doubtful = [h for h in headers if h.doubt]
    if doubtful:
        warn(doubtful, headers, doubtful[0].doubt)
    elsewhere = [h for h in headers if not is_mni(h)]
    if elsewhere:
        warn(elsewhere, headers, f"neither header nor name says MNI space; {PREPARE}")


def warn(some: list[Header], of: list[Header], what: str) -> None:
    """One line on several scans."""
    log.warning("warning: %d of %d scans (%s): %s", len(some), len(of), some[0].path.name, what)


def is_mni(header: Header) -> bool:
    """Whether header or name say MNI space."""
    return header.space_code == MNI or "_space-MNI" in header.path.name


def ras_grid(header: Header) -> Grid:
    """Where an image lies, in RAS+."""
    return Grid(header.shape, header.affine).turned("RAS")


def common_grid(scans: list[Visit], headers: list[Header]) -> Grid:
    """The grid in RAS+ that all share; a DataError where some lie off what most share."""
    grids = [ras_grid(h) for h in headers]
    keys = [(g.shape, tuple((g.affine / SAME_MM).round().ravel())) for g in grids]
    rule = grids[keys.index(Counter(keys).most_common(1)[0][0])]
    odd = [(s, g) for s, g in zip(scans, grids, strict=True) if not g.matches(rule, SAME_MM)]
    if odd:
        (scan, grid), alike = odd[0], len(scans) - len(odd)
        raise DataError(
            f"{scan.who}: lies on a grid of {grid}, up to {grid.apart(rule):.1f} mm off the grid of "
            f"{rule} that {alike} of {len(scans)} scans share ({len(odd)} do not); mend its header, "
            f"leave it out (data.exclude), or resample all to a grid with a name, e.g. data.grid=2mm"
        )
    return rule


def own_grids(scans: list[Visit], headers: list[Header]) -> dict[Path, Grid]:
    """The grid of each image in RAS+, where shapes and places may differ, but not voxel sizes.

    Raises:
        DataError: some voxels are of another size.
    """
    grids = [ras_grid(h) for h in headers]
    usual = np.median([g.spacing for g in grids], 0)
    for scan, grid in zip(scans, grids, strict=True):
        if not np.allclose(grid.spacing, usual, rtol=SAME_SIZE):
            mm = " x ".join(f"{s:g}" for s in usual)
            raise DataError(
                f"{scan.who}: lies on a grid of {grid}, most have voxels of {mm} mm; with data.grid=own "
                f"all have one size: resample it, or leave it out (data.exclude)"
            )
    return {scan.image: grid for scan, grid in zip(scans, grids, strict=True)}


def check_contrast(volume: Volume, path: Path) -> None:
    """Refuse, by a DataError, an image in which there is nothing to see."""
    tissue = volume.data[volume.data > 0]
    if not tissue.size:
        raise DataError(f"{path}: has no voxel above 0; export it again")
    if tissue.min() == tissue.max():
        raise DataError(
            f"{path}: has no contrast, all voxels above 0 are {tissue[0]:g}; is it a mask, or an export "
            f"that failed? Give the scan itself"
        )


def doubts(volume: Volume, grid: Grid | None = None, *, stripped: bool = True) -> dict[str, str]:
    """Why an image may not be what networks take, by a word for the kind of reason.

    Args:
        volume: as it was read.
        grid: what it is to be learnt from on; None: where it lies.
        stripped: a stripped brain is due.
    """
    found = {}
    if stripped and not is_stripped(volume):
        ml, whole_ml = volume.grid.volume_ml(volume.data), volume.data.size * volume.grid.voxel_ml
        found["head"] = (
            f"{ml:.0f} ml of its {whole_ml:.0f} ml are not 0, so it is a whole head, or the air around "
            f"the brain is not 0; {PREPARE}"
        )
    lost = outside(volume, grid) if grid else 0
    if lost > CUT:
        found["cut"] = (
            f"{100 * lost:.0f} % of what is not 0 lie outside the grid and are cut off; {PREPARE}"
        )
    above, below = (
        volume.data[side].sum(dtype=np.float64) for side in (volume.data > 0, volume.data < 0)
    )
    if -below > BELOW * (above - below):
        share = below / (below - above)
        found["below"] = (
            f"values below 0 make up {100 * share:.0f} % of it (was it standardised?), and networks see "
            f"them as 0; give the image as it was before"
        )
    return found


def is_stripped(head: Volume) -> bool:
    """Whether the skull is gone: nothing but exact zeros around something of a brain's size."""
    return not not_stripped(head)


def not_stripped(head: Volume) -> str:
    """Why an image seems to be no stripped brain, in words; empty where it is one."""
    ml, zeros = head.grid.volume_ml(head.data > 0), np.mean(head.data == 0)
    if ml >= STRIPPED_ML:
        return (
            f"{ml:.0f} ml of it are above 0, a brain has less than {STRIPPED_ML:.0f} ml: the skull or "
            f"the air is still there (give a brain mask, or strip it with vol3d prepare), or the voxel "
            f"sizes of its header are wrong"
        )
    if zeros <= LEAST_AIR:
        return (
            f"only {100 * zeros:.0f} % of its voxels are 0, so that it is no stripped brain with air "
            f"around it: give a brain mask, or strip it with vol3d prepare"
        )
    return ""


def outside(volume: Volume, grid: Grid) -> float:
    """Which share of the voxels that are not 0 lies outside a grid; one in a few is looked at."""
    step = max(1, max(volume.shape) // 48)
    index = np.argwhere(volume.data[::step, ::step, ::step]) * step
    to_grid = np.linalg.inv(grid.affine) @ volume.affine
    at = index @ to_grid[:3, :3].T + to_grid[:3, 3]  # voxels of the grid
    beyond = (at < -0.5) | (at > np.array(grid.shape) - 0.5)
    return float(beyond.any(1).mean()) if len(index) else 0.0
