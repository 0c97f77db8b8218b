"""Random changes of training images by TorchIO (Perez-Garcia et al. 2021, arXiv:2003.04696).

Names and meanings of the settings are TorchIO's. Each takes one number, the largest change.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor

from vol3d.config import Config
from vol3d.data.rng import DrawnFrom, torch_rng

if TYPE_CHECKING:  # TorchIO takes a second to load, so it is loaded when it is first used
    from torchio import Subject


class Transform(Config):
    """One of TorchIO's random transforms: the one called Random and the name of the class."""

    def applied(self, subject: "Subject") -> "Subject":
        """The subject, changed."""
        import torchio

        kind = getattr(torchio, f"Random{type(self).__name__}")
        return kind(**self.settings(subject), copy=False)(subject)

    def settings(self, subject: "Subject") -> dict[str, Any]:
        """What TorchIO is told."""
        return self.model_dump(exclude={"p"})


class Affine(Transform):
    """Resize, turn and shift all images and label maps of a person alike, about the image's centre."""

    p: float = Field(default=0.5, ge=0, le=1)
    """Probability that an image is changed."""
    scales: float = Field(default=0.05, ge=0, lt=1)
    """Largest change of the size along each axis, relative: 0.05 is from 0.95 to 1.05 times."""
    degrees: NonNegativeFloat = 5.0
    """Largest turn about each axis, in degrees."""
    translation: NonNegativeFloat = 3.0
    """Largest shift along each axis, in mm."""

    def settings(self, subject: "Subject") -> dict[str, Any]:
        """TorchIO turns and resizes a slice in its plane, but would shift it out of that."""
        far = self.translation
        across = 0.0 if subject.is_2d() else far
        shifts = (-far, far, -far, far, -across, across)
        return {**super().settings(subject), "translation": shifts}


class ElasticDeformation(Transform):
    """Bend all images and label maps of a person alike, by B-splines on a coarse grid."""

    p: float = Field(default=0.5, ge=0, le=1)
    """Probability that an image is changed."""
    num_control_points: int = Field(default=7, ge=5)
    """Points of the coarse grid along each axis; fewer bend more smoothly."""
    max_displacement: NonNegativeFloat = 5.0
    """Largest shift of a point along each axis, in mm; above half their distance, tissue may fold."""


class Gamma(Transform):
    """Change the contrast: intensities are raised to a power."""

    p: float = Field(default=0.3, ge=0, le=1)
    """Probability that an image is changed."""
    log_gamma: NonNegativeFloat = 0.2
    """Largest natural logarithm of the power: 0.2 is a power from 0.82 to 1.22."""


class BiasField(Transform):
    """Let the brightness drift across the image, as receiver coils do."""

    p: float = Field(default=0.3, ge=0, le=1)
    """Probability that an image is changed."""
    coefficients: NonNegativeFloat = 0.2
    """Largest coefficient of the polynomial that is the logarithm of the drift."""
    order: NonNegativeInt = 3
    """Order of the polynomial."""


class Motion(Transform):
    """Let the head have moved during the scan: parts of its spectrum are those of moved images."""

    p: float = Field(default=0.1, ge=0, le=1)
    """Probability that an image is changed."""
    degrees: NonNegativeFloat = 3.0
    """Largest turn of a movement about each axis, in degrees."""
    translation: NonNegativeFloat = 3.0
    """Largest shift of a movement along each axis, in mm."""
    num_transforms: int = Field(default=2, ge=1, le=20)
    """Movements during the scan."""


class Blur(Transform):
    """Blur with a Gaussian."""

    p: float = Field(default=0.2, ge=0, le=1)
    """Probability that an image is changed."""
    std: NonNegativeFloat = 1.0
    """Largest standard deviation of the Gaussian along each axis, in mm."""


class Noise(Transform):
    """Add Gaussian noise to the brain."""

    p: float = Field(default=0.3, ge=0, le=1)
    """Probability that an image is changed."""
    mean: NonNegativeFloat = 0.0
    """Largest shift of all intensities, up or down; an image's intensities are from 0 to 1."""
    std: NonNegativeFloat = 0.03
    """Largest standard deviation, in the same units."""

    def applied(self, subject: "Subject") -> "Subject":
        """The subject with TorchIO's noise, by its functions: its class seeds the global generator."""
        from torchio.transforms.augmentation.intensity.random_noise import RandomNoise, get_noise

        noise = RandomNoise(mean=self.mean, std=self.std)
        for image in subject.get_images(intensity_only=True):
            mean, std, _ = noise.get_params(noise.mean_range, noise.std_range)
            image.set_data(image.data + get_noise(image.data, mean, std))
        return subject


class Augment(Config):
    """Change training images at random, in the order below; what is null is left out.

    `affine={}` switches one on as it is set by default.
    """

    affine: Affine | None = None
    """Resize, turn and shift."""
    elastic: ElasticDeformation | None = None
    """Bend."""
    gamma: Gamma | None = None
    """Change the contrast."""
    bias_field: BiasField | None = None
    """Let the brightness drift."""
    motion: Motion | None = None
    """Let the head have moved."""
    blur: Blur | None = None
    """Blur."""
    noise: Noise | None = None
    """Add noise."""

    def augmented(
        self,
        images: dict[str, Tensor],
        labels: dict[str, Tensor],
        spacing: tuple[float, float, float],
        rng: torch.Generator,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """A person's images and label maps, changed at random on the same grid.

        The first two transforms move images and label maps alike, label maps by nearest neighbour. The
        others change intensities, each image by numbers of its own. Outside the brain images stay 0: the
        brain, where any image was above 0, is moved as a label map, or else interpolation would give it a
        rim; and what is 0 in a moved image is not lifted. With all off, nothing is drawn from `rng`.

        Args:
            images: [1, X, Y, Z] each, from 0 to 1, 0 outside the brain; they are not written to.
            labels: [1, X, Y, Z] each, integers below 2**24.
            spacing: of the grid, in mm.
            rng: of this person's image; one seed is drawn, and each transform has a generator from it,
                so that to set one leaves what the others draw as it is.
        """
        moving = self.chosen("affine", "elastic")
        shading = self.chosen("gamma", "bias_field", "motion", "blur", "noise")
        if not moving | shading:
            return images, labels
        seed = int(torch.randint(2**62, (), generator=rng))
        axis = thin_axis(images)
        subject = apply(moving, subject_of(images, labels, spacing, axis), seed)
        brain = subject["brain"].data > 0
        brains = {name: brain & (subject[f"image {name}"].data > 0) for name in images}
        subject = apply(shading, subject, seed)
        pictures = {
            name: (subject[f"image {name}"].data * brains[name]).clamp(0, 1).to(x)
            for name, x in images.items()
        }
        maps = {name: subject[f"label {name}"].data.to(y) for name, y in labels.items()}
        return tuple(
            {n: x.movedim(3, axis).contiguous() for n, x in of.items()} for of in (pictures, maps)
        )

    def chosen(self, *names: str) -> dict[str, Transform]:
        """Those transforms that are on, by name."""
        return {name: t for name in names if (t := getattr(self, name)) is not None}


def thin_axis(images: dict[str, Tensor]) -> int:
    """The axis of [1, X, Y, Z] along which a slice has one voxel; 3, Z, of a volume."""
    shape = next(iter(images.values())).shape
    return next((axis for axis in (1, 2, 3) if shape[axis] == 1), 3)


def subject_of(
    images: dict[str, Tensor],
    labels: dict[str, Tensor],
    spacing: tuple[float, float, float],
    axis: int,
) -> "Subject":
    """TorchIO's form of a person, with a map of the brain; the axis, of a slice, comes last."""
    from torchio import LabelMap, ScalarImage, Subject

    images, labels = ({n: x.movedim(axis, 3) for n, x in of.items()} for of in (images, labels))
    mm = [*spacing]
    affine = np.diag([*mm[: axis - 1], *mm[axis:], mm[axis - 1], 1.0])
    brain = torch.stack(list(images.values())).amax(0) > 0  # [1, X, Y, Z]
    return Subject(
        {f"image {name}": ScalarImage(tensor=x, affine=affine) for name, x in images.items()}
        | {f"label {name}": LabelMap(tensor=y, affine=affine) for name, y in labels.items()},
        brain=LabelMap(tensor=brain, affine=affine),
    )


def apply(transforms: dict[str, Transform], subject: "Subject", seed: int) -> "Subject":
    """The subject after each of the transforms that its own generator lets through."""
    for name, transform in transforms.items():
        rng = torch_rng(seed, name)
        if torch.rand((), generator=rng) < transform.p:
            with DrawnFrom(rng):
                subject = transform.applied(subject)
    return subject
