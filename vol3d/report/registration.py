"""A registration as a picture: both images, a checkerboard of them, the warped grid, the Jacobian."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from vol3d.data.network_images import as_seen, normalise
from vol3d.planes import SIDES, middle, planes_shown, three_slices
from vol3d.trained.registration import Registration
from vol3d.transforms.displacement import jacobian, to_voxels
from vol3d.transforms.resample import move_image
from vol3d.volume import Grid

SQUARE_MM, LINES_MM = 24.0, 8.0
WIDTH_INCHES, GAP_MM, TITLE_MM = 12.0, 12.0, 22.0
LOG2_LIMIT = 1.0
"""The Jacobian is drawn from half to twice."""
ACROSS = ((0, 1), (0, 2), (1, 2))
"""Which axes run across and up in the axial, coronal and sagittal plane."""


def registration_figure(found: Registration, title: str) -> Figure:
    """Six panels of three planes, in RAS+ along the fixed image's axes.

    Fixed; moving after the affine map; registered; a checkerboard of fixed and registered; the fixed
    grid's lines where the deformation takes them, over the registered brain; the deformation's Jacobian.
    """
    grid, moving = found.grid, found.moving.brain
    fixed = as_seen(found.fixed.brain, grid).data
    affine = normalise(move_image(moving, found.flow.affine, grid).data)
    registered = normalise(move_image(moving, found.transform, grid).data)
    u = found.flow.displacement(1.0)
    at, planes = middle([fixed, registered]), planes_shown(grid.shape)
    extents = np.array(grid.shape) * grid.spacing
    widths = [extents[ACROSS[p][0]] for p in planes]
    heights = extents[ACROSS[planes[0]][1]], max(extents[ACROSS[p][1]] for p in planes)
    rows = {
        f"fixed: {found.fixed.path.name}": fixed,
        f"moving after the affine map: {found.moving.path.name}": affine,
        "registered": registered,
        f"fixed and registered in squares of {SQUARE_MM:g} mm": checkerboard(
            fixed, registered, grid
        ),
        f"the deformation: lines {LINES_MM:g} mm apart in the moving image": registered,
        "how many times larger the moving tissue is, the affine map left out": fixed,
    }
    log2 = np.where(fixed > 0, np.log2(np.clip(jacobian(u, grid), 1e-3, None)), np.nan)
    columns = 2 if len(planes) > 1 else 6
    across, tall = columns * (sum(widths) + GAP_MM), len(rows) / columns * (max(heights) + TITLE_MM)
    figure = Figure(
        figsize=(WIDTH_INCHES, WIDTH_INCHES * tall / across), dpi=110, facecolor="white"
    )
    each = figure.add_gridspec(
        len(rows) // columns, columns, wspace=0.04, hspace=TITLE_MM / max(heights),
        left=0.01, right=0.95, bottom=0.01, top=1 - 2.2 * TITLE_MM / tall,
    )  # fmt: skip
    figure.suptitle(title, fontsize=10, y=1 - 0.3 * TITLE_MM / tall, parse_math=False)
    for n, (name, x) in enumerate(rows.items()):
        inner = each[n // columns, n % columns].subgridspec(
            1, len(planes), width_ratios=widths, wspace=0.02
        )
        row = [figure.add_subplot(inner[c]) for c in range(len(planes))]
        row[0].set_title(name, fontsize=8, loc="left", parse_math=False)
        for axes, p in zip(row, planes, strict=True):
            axes.set_anchor("N")
            place = {"extent": (0, extents[ACROSS[p][0]], 0, extents[ACROSS[p][1]])}
            shown = plane(axes, three_slices(x, at)[p], place, SIDES[p])
            if n == len(rows) - 2:
                lines(axes, u, grid, at, p, place)
            if n == len(rows) - 1:
                limits = {"vmin": -LOG2_LIMIT, "vmax": LOG2_LIMIT}
                det = three_slices(log2, at)[p]
                shown = axes.imshow(det, cmap="RdBu_r", origin="upper", **limits, **place)
    bar = figure.colorbar(shown, cax=row[-1].inset_axes([1.03, 0.05, 0.05, 0.9]))
    bar.set_ticks([-1, 0, 1], labels=["1/2", "1", "2"])
    return figure


def plane(axes: Axes, picture: np.ndarray, place: dict, sides: str) -> AxesImage:
    """One slice in mm, with a letter on either side."""
    axes.set(xticks=[], yticks=[], facecolor="black")
    axes.spines[:].set_visible(False)
    for x, letter in zip((0.03, 0.97), sides, strict=True):
        words = {"color": "white", "fontsize": 7, "ha": "center", "va": "center"}
        axes.text(x, 0.5, letter, transform=axes.transAxes, **words)
    return axes.imshow(
        picture, cmap="gray", vmin=0, vmax=1 / 1.2, origin="upper", interpolation="nearest", **place
    )


def lines(
    axes: Axes, u: np.ndarray, grid: Grid, at: tuple[int, int, int], p: int, place: dict
) -> None:
    """Where the coordinates of the moving image, before the affine map, are whole steps."""
    w = to_voxels(u, grid)
    for axis in ACROSS[p]:
        index = np.arange(grid.shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
        mm = three_slices((index + w[axis]) * grid.spacing[axis], at)[p]
        steps = np.arange(0, grid.shape[axis] * grid.spacing[axis], LINES_MM)
        axes.contour(mm, levels=steps, colors="#ffd040", linewidths=0.5, origin="upper", **place)


def checkerboard(a: np.ndarray, b: np.ndarray, grid: Grid) -> np.ndarray:
    """Squares of one volume and the other in turn, in every plane."""
    index = np.indices(grid.shape)
    mm = index * np.array(grid.spacing)[:, None, None, None]
    return np.where((mm // SQUARE_MM).astype(int).sum(0) % 2 == 0, a, b)
