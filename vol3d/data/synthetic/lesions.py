"""White-matter lesions of age: near the ventricles and deep in white matter, more with the years.

Where lesions may be is said in the template, how large they are in the person, in mm.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from vol3d.data.synthetic.template import load_template
from vol3d.data.synthetic.velocity import SPACING, draw_smooth
from vol3d.data.synthetic.warp import block_mean
from vol3d.volume import Grid, mni_grid

COUNT, COUNT_GROWTH, COUNT_FREE = 2.0, 60.0, 0.6
"""Mean number at 20 years; what is added by 90, with the square of age; and the standard deviation
of its logarithm among people of one age."""
NEAR_SHARE = 0.6
"""Which share of the lesions is near the ventricles."""
NEAR_MM, DEEP_MM, RADIUS_GROWTH, RADIUS_FREE = 2.2, 1.4, 0.6, 0.35
"""Median radius near the ventricles and deep, mm, at 20 years; how much larger by 90, as a
fraction; and the standard deviation of its logarithm."""
AXES_FREE = 0.25
"""Standard deviation of the logarithm of an axis: lesions are ellipsoids."""
WOBBLE_MM, WOBBLE_KNOTS_MM = 0.5, 8.0
"""By how much, and over which distance, the surface strays from an ellipsoid."""
REACH_MM = 6.0
"""How far around lesions the distance from them is known; no rater errs by more."""


@dataclass(frozen=True, eq=False)
class Outline:
    """The surface of lesions, told by the distance from it on the grid of 1 mm.

    Attributes:
        near: [3, P] the voxels at most about `REACH_MM` from lesions; all others are outside.
        distance: [P] mm from the surface, negative within; without regard to where white matter
            ends.
    """

    near: np.ndarray
    distance: np.ndarray

    def moved(self, mm: np.ndarray) -> "Outline":
        """The surface brought outwards by so many mm at each of the voxels, [P]."""
        return Outline(self.near, self.distance - mm)

    def share(self, white: np.ndarray) -> np.ndarray:
        """Which share of each voxel is lesion, [X, Y, Z]: what lies within and is white matter.

        Args:
            white: [X, Y, Z] which share of a voxel is white matter, on the grid of 1 or 2 mm.
        """
        within = np.zeros(mni_grid(1.0).shape, np.float32)
        within[tuple(self.near)] = np.clip(0.5 - self.distance, 0, 1)  # on the surface: half
        return block_mean(within[None], within.shape[0] // white.shape[0])[0] * white


def draw_lesions(rng: np.random.Generator, age: float, displacement: np.ndarray) -> Outline:
    """Draw the lesions of a person.

    Args:
        rng: the person's, for this alone.
        age: years.
        displacement: [3, X, Y, Z] mm on the grid of 4 mm; leads from the person to the template.
    """
    old = max((age - 20) / 70, 0.0)
    mean = (COUNT + COUNT_GROWTH * old**2) * np.exp(COUNT_FREE * rng.standard_normal())
    n = int(rng.poisson(mean))
    is_near = rng.uniform(size=n) < NEAR_SHARE
    radius = np.where(is_near, NEAR_MM, DEEP_MM) * (1 + RADIUS_GROWTH * old)
    radii = radius[:, None] * np.exp(  # [n, 3] mm
        RADIUS_FREE * rng.standard_normal((n, 1)) + AXES_FREE * rng.standard_normal((n, 3))
    )
    turns = rng.standard_normal((n, 4))  # quaternions
    at, jitter = rng.uniform(size=n), rng.uniform(-1, 1, size=(n, 3))

    places, below_near, below_deep = load_places()
    which = np.where(is_near, *(np.searchsorted(b, at, "right") for b in (below_near, below_deep)))
    centres = person_points(places[which] + jitter, displacement)  # [n, 3] mm
    grid = mni_grid(1.0)
    distance = np.full(grid.shape, REACH_MM, np.float32)
    for centre, r, turn in zip(centres, radii, turns, strict=True):
        lower(distance, grid, centre, r, Rotation.from_quat(turn).as_matrix())
    near = np.stack(np.nonzero(distance < REACH_MM))  # [3, P]
    outline = Outline(near, distance[tuple(near)])
    return outline.moved(WOBBLE_MM * wander(rng, near, WOBBLE_KNOTS_MM))


@lru_cache(maxsize=1)
def load_places() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where lesions may be in the template: points [P, 3] mm, and how likely each is.

    Likely is told by the sum of the chances up to each point, [P], near the ventricles and deep in
    white matter. The brain stem, the cerebellum and what lies on the midline are left out.
    """
    template = load_template(2.0)
    _, _, wm, ventricles = template.tissues
    mm = template.grid.spacing[0]
    from_ventricles = mm * ndimage.distance_transform_edt(ventricles < 0.5)
    depth = mm * ndimage.distance_transform_edt(wm > 0.5)  # from where white matter ends
    voxels = np.argwhere(wm > 0.9)
    points = voxels @ template.grid.affine[:3, :3].T + template.grid.affine[:3, 3]
    inner = tuple(voxels.T)
    allowed = (np.abs(points[:, 0]) > 8) & (points[:, 2] > -10)
    near = allowed * np.exp(-from_ventricles[inner] / 3)
    deep = allowed * ((depth[inner] >= 4) & (from_ventricles[inner] > 10))
    below_near, below_deep = np.cumsum(near), np.cumsum(deep)
    return points, below_near / below_near[-1], below_deep / below_deep[-1]


def person_points(points: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """The points x of the person, [n, 3] mm, with x + u(x) = p for the template's points p.

    Args:
        points: [n, 3] mm in the template.
        displacement: u, [3, X, Y, Z] mm on the grid of 4 mm.
    """
    grid, x = mni_grid(SPACING), points.copy()
    for _ in range(30):  # half steps, which do not swing; 0.01 mm are left at most
        voxels = ((x - grid.origin) / SPACING).T
        u = [ndimage.map_coordinates(ui, voxels, order=1, mode="nearest") for ui in displacement]
        x -= 0.5 * (x + np.stack(u, axis=1) - points)
    return x


def lower(
    distance: np.ndarray, grid: Grid, centre: np.ndarray, radii: np.ndarray, turn: np.ndarray
) -> None:
    """Bring the distance [X, Y, Z] down to that of one ellipsoid, in a box around it.

    To first order the distance is k0 (k0 - 1) / k1 with k0 = |x / r|, k1 = |x / r^2|.
    """
    reach = radii.max() + REACH_MM
    low = np.maximum(np.ceil((centre - reach - grid.origin) / grid.spacing), 0).astype(int)
    high = np.floor((centre + reach - grid.origin) / grid.spacing).astype(int) + 1
    high = np.maximum(np.minimum(high, grid.shape), low)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    axes = [
        np.arange(a, b) * s + o - c
        for a, b, s, o, c in zip(low, high, grid.spacing, grid.origin, centre, strict=True)
    ]
    x = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) @ turn  # [X, Y, Z, 3]
    k0 = np.linalg.norm(x / radii, axis=-1)
    k1 = np.linalg.norm(x / radii**2, axis=-1)
    distance[box] = np.minimum(distance[box], k0 * (k0 - 1) / np.maximum(k1, 1e-9))


def wander(rng: np.random.Generator, near: np.ndarray, knots_mm: float) -> np.ndarray:
    """A smooth random field of unit variance at voxels of the grid of 1 mm, [P].

    Args:
        rng: draws it.
        near: [3, P] the voxels.
        knots_mm: over which distance the field changes.
    """
    field = draw_smooth(rng, mni_grid(SPACING), knots_mm, 1)[0]
    return ndimage.map_coordinates(field, (near + 0.5) / SPACING - 0.5, order=1, mode="nearest")


def lesion_mask(share: np.ndarray, voxel_ml: float, ml: float) -> np.ndarray:
    """The voxels of the largest shares, so many that the mask has the volume `ml`: uint8 [X, Y, Z].

    A lesion that is smaller than a voxel would be lost to a threshold, and the volume with it.
    """
    mask = np.zeros(share.shape, np.uint8)
    mask.flat[np.argsort(-share, axis=None, kind="stable")[: round(ml / voxel_ml)]] = 1
    return mask
