"""Label maps: which structure each voxel is of, as numbers that noise can be added to."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from vol3d.bundle import Bundle
from vol3d.data.augment import Augment
from vol3d.data.dataset import Dataset
from vol3d.data.fake import FakeImages
from vol3d.data.images import Images as Source
from vol3d.data.visit import MAIN_LABELS, Visit
from vol3d.io.reading import understood
from vol3d.nn.precision import Precision
from vol3d.trained.target import Target
from vol3d.trained.targets.on_image_grid import (
    DRAWN,
    VolumeCodec,
    VolumeSamples,
    labels_in,
    maps_in,
    moments,
    one_hot,
)

Coding = Literal["bits", "one_hot"]


class Labels(Target):
    """A label map of each visit, coded as numbers of -1 and 1."""

    learns_from: ClassVar = Dataset
    kind: Literal["labels"] = "labels"
    of: str = MAIN_LABELS
    """Which label map: that of labels_entities, or of a rater."""
    coding: Coding = "bits"
    """bits: a channel each for the binary digits of a label's number (analog bits, Chen et al. 2023,
    arXiv:2208.04202); one_hot: a channel for each label."""
    patch: tuple[int, int, int] | None = None
    """Train on random patches of so many voxels; null trains on whole volumes."""
    augment: Augment = Augment()
    """Random changes of training images, all of a visit alike."""

    def samples(self, data: Dataset, images: Sequence[str]) -> "LabelSamples":
        """See `Target.samples`."""
        visits = Source(data, needs=[self.of], may=images)
        values = labels_in(visits, self.of)
        codec = LabelCodec(*moments(visits), maps_in(visits, images), values, self.coding)
        return LabelSamples(visits, codec, self.augment, self.patch, self.of)

    def dry_samples(self, data: FakeImages) -> "LabelSamples":
        """See `Target.dry_samples`."""
        codec = LabelCodec(0.0, 1.0, {}, [0, 1], self.coding)
        return LabelSamples(data, codec, self.augment, self.patch, self.of)

    def codec(
        self, bundle: Bundle, device: torch.device | str, precision: Precision
    ) -> "LabelCodec":
        """See `Target.codec`."""
        with understood(bundle.path / "fingerprint.json"):
            return LabelCodec(**bundle.fingerprint()[DRAWN], coding=self.coding)


class LabelCodec(VolumeCodec):
    """Labels by their place in a list of values."""

    is_labels = True

    def __init__(
        self,
        shift: float,
        scale: float,
        maps: Mapping[str, list[int]],
        values: Sequence[int],
        coding: Coding,
    ) -> None:
        super().__init__(shift, scale, maps)
        self.values, self.coding = [int(v) for v in values], coding
        bits = max(1, math.ceil(math.log2(len(values))))
        self.channels = bits if coding == "bits" else len(values)

    def dump(self) -> dict[str, Any]:
        """With the labels too."""
        return {**super().dump(), "values": self.values}

    def encode(self, labels: Tensor) -> Tensor:
        """Labels [1, X, Y, Z] -> [C, X, Y, Z] of -1 and 1; one that is not listed is the first."""
        places = one_hot(labels, self.values).argmax(0)
        if self.coding == "one_hot":
            bits = torch.stack([places == i for i in range(self.channels)])
        else:
            bits = torch.stack([places >> i & 1 for i in range(self.channels)])
        return 2 * bits.float() - 1

    def decode(self, x0: Tensor, shape: tuple[int, int, int] | None = None) -> Tensor:
        """See `Codec.decode`; of bits that no label has, the last label."""
        if self.coding == "one_hot":
            places = x0.argmax(1, keepdim=True)
        else:
            weights = 2 ** torch.arange(self.channels, device=x0.device).view(1, -1, 1, 1, 1)
            places = ((x0 > 0) * weights).sum(1, keepdim=True).clamp(max=len(self.values) - 1)
        return torch.tensor(self.values, device=x0.device)[places]


class LabelSamples(VolumeSamples):
    """The visits' label maps of one name."""

    def __init__(
        self,
        images: Source | FakeImages,
        codec: LabelCodec,
        augment: Augment,
        patch: tuple[int, int, int] | None,
        of: str,
    ) -> None:
        super().__init__(images, codec, augment, patch)
        self.of = of

    def x0(self, visit: Visit, there: Mapping[str, Tensor]) -> Tensor:
        """The label map, coded."""
        return self.codec.encode(there[self.of])
