"""One subject of the embedded cohort: image, label map, displacement, and the true volumes."""

from dataclasses import dataclass

import numpy as np

from vol3d.data.rng import numpy_rng
from vol3d.data.synthetic.person import Anatomy, Person, draw_person
from vol3d.data.synthetic.template import TISSUES, load_template
from vol3d.data.synthetic.velocity import SPACING, draw_smooth, load_parts
from vol3d.data.synthetic.warp import block_mean, finer, integrate, jacobian, warp
from vol3d.errors import ConfigError
from vol3d.volume import Grid, Volume, mni_grid

NOISE = 0.015
"""Standard deviation of the noise, relative to white matter."""
BIAS = 0.04
"""Standard deviation of the slow drift of brightness across the head."""
CONTRAST = 0.08
"""Standard deviation of the exponent that brightens or darkens the greys."""
VAL_EVERY = 6
"""Every so many subjects, one is for validation."""
MNI_CODE = 4


@dataclass(frozen=True, eq=False)
class Subject:
    """One subject and the truth about them.

    Attributes:
        image: T1w brain, uint8; 255 is 1.2 times the 99.5th percentile of the brain.
        labels: 0 nothing, 1 CSF, 2 grey matter, 3 white matter, 4 lateral ventricles.
        displacement: [3, X, Y, Z] mm, RAS+; the template at x + u(x) is the subject at x.
        person: what was drawn.
        brain_ml: grey and white matter.
        ventricles_ml: lateral ventricles.
        split: "train" or "val".
    """

    image: Volume
    labels: Volume
    displacement: np.ndarray
    person: Person
    brain_ml: float
    ventricles_ml: float
    split: str


def make_subject(seed: int, index: int, spacing: float, anatomy: Anatomy) -> Subject:
    """Make a subject, who depends on nothing but these arguments.

    The shape is the same at every spacing. The template of 1 mm is read at points 2 mm apart (1 mm
    where `spacing` is 1); volumes are measured from the shares of tissue there.
    """
    person = draw_person(numpy_rng(seed, "person", index), anatomy)
    template, fine = load_template(1.0), mni_grid(min(spacing, 2.0))
    displacement = draw_displacement(person, numpy_rng(seed, "shape", index), anatomy)  # 4 mm grid
    dense = finer(displacement, round(SPACING / fine.spacing[0]))
    moved = warp(template.images, dense, fine.spacing[0])  # [5, X, Y, Z]
    t1, tissues = moved[0], moved[1:]
    ml = dict(zip(TISSUES, tissues.sum((1, 2, 3), dtype=np.float64) * fine.voxel_ml, strict=True))

    factor = round(spacing / fine.spacing[0])
    t1, tissues = block_mean(t1[None], factor)[0], block_mean(tissues, factor)
    grid = mni_grid(spacing)
    image = scan(t1, tissues, grid, numpy_rng(seed, "scanner", index))
    return Subject(
        image=Volume(image, grid.affine, MNI_CODE),
        labels=Volume(choose_labels(tissues), grid.affine, MNI_CODE),
        displacement=block_mean(dense, factor),
        person=person,
        brain_ml=ml["gm"] + ml["wm"],
        ventricles_ml=ml["ventricles"],
        split="val" if index % VAL_EVERY == VAL_EVERY - 1 else "train",
    )


def draw_displacement(person: Person, rng: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """Where each point of the person lies in the template, [3, X, Y, Z] mm on a grid of 4 mm.

    Raises:
        ConfigError: the warp folds, which only an extreme anatomy brings about.
    """
    parts = load_parts()
    ratio = person.ventricles_ml / (parts.ventricles_ml * np.exp(3 * person.log_size))
    shape = draw_smooth(rng, parts.grid, anatomy.shape_knots_mm, 3)
    velocity = (
        np.float32(person.log_size) * parts.size
        + np.float32(parts.ventricles_for(ratio)) * parts.ventricles
        + np.float32(person.atrophy) * parts.atrophy
        + np.float32(anatomy.shape_mm) * shape
    )
    displacement = integrate(-velocity, SPACING)  # backwards: from the person to the template
    folded = float((jacobian(displacement, parts.grid) <= 0).mean())
    if folded:
        raise ConfigError(
            f"anatomy: the warp of a person aged {person.age:g} folds in {folded:.2%} of voxels; "
            f"make shape_mm or the range of the ventricles smaller"
        )
    return displacement


def scan(t1: np.ndarray, tissues: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """The image that a scanner gives: contrast, drift of brightness, noise; 0 off the brain."""
    inside = tissues.sum(0) > 0.5
    contrast = np.exp(CONTRAST * rng.standard_normal())
    bias = np.exp(BIAS * draw_smooth(rng, grid, knots_mm=80.0, count=1)[0])
    noise = NOISE * rng.standard_normal(t1.shape, dtype=np.float32)
    x = inside * np.maximum(t1 ** np.float32(contrast) * bias + noise, 0.01)
    top = 1.2 * np.percentile(x[inside], 99.5)
    return np.rint(255 * np.clip(x / top, 0, 1)).astype(np.uint8)


def choose_labels(tissues: np.ndarray) -> np.ndarray:
    """The tissue with the largest share of each voxel, or 0 where less than half is tissue."""
    return ((tissues.argmax(0) + 1) * (tissues.sum(0) > 0.5)).astype(np.uint8)
