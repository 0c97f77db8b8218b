"""One subject of the embedded cohort: images, label maps, displacement, and the true volumes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vol3d.data.rng import numpy_rng
from vol3d.data.synthetic.contrast import HEADROOM, PERCENTILE, Contrast, darken, signal_of
from vol3d.data.synthetic.lesions import draw_lesions, lesion_mask
from vol3d.data.synthetic.person import Anatomy, Person, draw_person
from vol3d.data.synthetic.raters import draw_rater, outline
from vol3d.data.synthetic.scanner import scan
from vol3d.data.synthetic.template import TISSUES, load_template
from vol3d.data.synthetic.velocity import SPACING, draw_smooth, load_parts
from vol3d.data.synthetic.warp import block_mean, finer, integrate, warp
from vol3d.errors import ConfigError
from vol3d.transforms.displacement import jacobian
from vol3d.volume import Volume, mni_grid

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
        brain_ml: grey and white matter.
        split: "train" or "val".
        contrasts: T2w and FLAIR, those that were asked for, as the image is.
        lesions: 1 in lesions, 0 elsewhere; None: the person was made without.
        ratings: what each rater takes for lesion, as `lesions`.
    """

    image: Volume
    labels: Volume
    displacement: np.ndarray
    person: Person
    brain_ml: float
    ventricles_ml: float
    split: str
    contrasts: dict[Contrast, Volume] = field(default_factory=dict)
    lesions: Volume | None = None
    lesions_ml: float | None = None
    ratings: tuple[Volume, ...] = ()


def make_subject(
    seed: int,
    index: int,
    spacing: float,
    anatomy: Anatomy,
    *,
    contrasts: Sequence[Contrast] = (),
    lesions: bool = False,
    raters: int = 0,
) -> Subject:
    """Make a subject, who depends on nothing but these arguments.

    The shape is the same at every spacing. The template of 1 mm is read at points 2 mm apart (1 mm
    where `spacing` is 1); volumes are measured from the shares of tissue there.

    Args:
        seed: of the cohort.
        index: of the person.
        spacing: mm.
        anatomy: how people differ.
        contrasts: which images are made beside T1w; they change nothing else.
        lesions: whether white matter has lesions; the images show them, all else stays.
        raters: how many outline the lesions.
    """
    person = draw_person(numpy_rng(seed, "person", index), anatomy)
    template, fine = load_template(1.0), mni_grid(min(spacing, 2.0))
    displacement = draw_displacement(person, numpy_rng(seed, "shape", index), anatomy)  # 4 mm grid
    dense = finer(displacement, round(SPACING / fine.spacing[0]))
    moved = warp(template.images, dense, fine.spacing[0])  # [5, X, Y, Z]
    t1, tissues = moved[0], moved[1:]
    white = tissues[TISSUES.index("wm")]
    ml = dict(zip(TISSUES, tissues.sum((1, 2, 3), dtype=np.float64) * fine.voxel_ml, strict=True))

    shares = []
    if lesions:
        shares = draw_shares(seed, index, person, displacement, white, raters)
        t1 = darken(t1, tissues, shares[0])

    factor, grid = round(spacing / fine.spacing[0]), mni_grid(spacing)

    def volume(data: np.ndarray) -> Volume:
        return Volume(data, grid.affine, MNI_CODE)

    t1, tissues = block_mean(t1[None], factor)[0], block_mean(tissues, factor)
    lesions_ml = [float(s.sum(dtype=np.float64)) * fine.voxel_ml for s in shares]
    shares = [block_mean(s[None], factor)[0] for s in shares]
    masks = [
        volume(lesion_mask(s, grid.voxel_ml, v)) for s, v in zip(shares, lesions_ml, strict=True)
    ]
    images = {}
    for name in contrasts:
        signal = signal_of(name, tissues, shares[0] if lesions else None)
        rng = numpy_rng(seed, "scanner", name, index)
        images[name] = volume(scan(signal, tissues, grid, rng, PERCENTILE, HEADROOM))
    return Subject(
        image=volume(scan(t1, tissues, grid, numpy_rng(seed, "scanner", index))),
        labels=volume(choose_labels(tissues)),
        displacement=block_mean(dense, factor),
        person=person,
        brain_ml=ml["gm"] + ml["wm"],
        ventricles_ml=ml["ventricles"],
        split="val" if index % VAL_EVERY == VAL_EVERY - 1 else "train",
        contrasts=images,
        lesions=masks[0] if lesions else None,
        lesions_ml=lesions_ml[0] if lesions else None,
        ratings=tuple(masks[1:]),
    )


def draw_shares(
    seed: int, index: int, person: Person, displacement: np.ndarray, white: np.ndarray, raters: int
) -> list[np.ndarray]:
    """Which share [X, Y, Z] of each voxel is lesion: in truth, then for each rater."""
    truth = draw_lesions(numpy_rng(seed, "lesions", index), person.age, displacement)
    outlined = (
        outline(draw_rater(seed, k), truth, numpy_rng(seed, "rater", k, index))
        for k in range(1, raters + 1)
    )
    return [surface.share(white) for surface in (truth, *outlined)]


def draw_displacement(person: Person, rng: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """Where each point of the person lies in the template, [3, X, Y, Z] mm on a grid of 4 mm."""
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


def choose_labels(tissues: np.ndarray) -> np.ndarray:
    """The tissue with the largest share of each voxel, or 0 where less than half is tissue."""
    return ((tissues.argmax(0) + 1) * (tissues.sum(0) > 0.5)).astype(np.uint8)
