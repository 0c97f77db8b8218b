"""Images as they are: diffusion in the voxels, whole or by patches."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vol3d.bundle import Bundle
from vol3d.data.augment import Augment
from vol3d.data.brain import USUAL
from vol3d.data.dataset import Dataset
from vol3d.data.fake import FakeImages
from vol3d.data.images import Images as Source
from vol3d.data.patches import Patches
from vol3d.io.reading import understood
from vol3d.nn.precision import Precision
from vol3d.trained.target import Target
from vol3d.trained.targets.on_image_grid import DRAWN, VolumeCodec, VolumeSamples, maps_in, moments


class Images(Target):
    """The main image of each visit, of zero mean and unit variance over the training set."""

    learns_from: ClassVar = Dataset
    kind: Literal["images"] = "images"
    patch: Patches = None
    """Train on random patches of so many voxels; null trains on whole volumes."""
    augment: Augment = Augment()
    """Random changes of training images, all of a visit alike."""

    def samples(self, data: Dataset, images: Sequence[str]) -> "ImageSamples":
        """See `Target.samples`."""
        visits = Source(data, may=images)
        maps = maps_in(visits, images)
        codec = ImageCodec(*moments(visits), maps, is_stripped=visits.are_stripped)
        return ImageSamples(visits, codec, self.augment, self.patch)

    def dry_samples(self, data: FakeImages) -> "ImageSamples":
        """See `Target.dry_samples`."""
        return ImageSamples(data, ImageCodec(0.0, 1.0, {}), self.augment, self.patch)

    def codec(
        self, bundle: Bundle, device: torch.device | str, precision: Precision
    ) -> "ImageCodec":
        """See `Target.codec`."""
        with understood(bundle.path / "fingerprint.json"):
            told = bundle.fingerprint()
            return ImageCodec(**told[DRAWN], is_stripped=bool(told["stripped"]))


class ImageCodec(VolumeCodec):
    """An image by its shift and scale."""

    channels = 1

    def __init__(
        self,
        shift: float,
        scale: float,
        maps: Mapping[str, list[int]],
        *,
        is_stripped: bool = False,
    ) -> None:
        super().__init__(shift, scale, maps)
        self.brain_level = USUAL if is_stripped else None

    def decode(self, x0: Tensor, shape: tuple[int, int, int] | None = None) -> Tensor:
        """See `Codec.decode`."""
        return (x0 * self.scale + self.shift).clamp(0, 1)


class ImageSamples(VolumeSamples):
    """The visits' main images."""

    def x0(self, there: Mapping[str, Tensor], rater: int) -> Tensor:
        """The image."""
        return there[self.images.main]

    def encoded(self, x0: Tensor) -> Tensor:
        """The image, standardised."""
        return self.codec.standardised(x0)
