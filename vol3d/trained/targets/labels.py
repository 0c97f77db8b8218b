"""Label maps: which structure each voxel is of, as numbers that noise can be added to."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AfterValidator, BeforeValidator
from torch import Tensor

from vol3d.bundle import Bundle
from vol3d.config import without_nulls
from vol3d.data.augment import Augment
from vol3d.data.dataset import Dataset, Names
from vol3d.data.fake import FakeImages
from vol3d.data.images import Images as Source
from vol3d.data.label_map import check_found
from vol3d.data.patches import Patch, Patches
from vol3d.data.structure_volumes import Labels as Ids
from vol3d.data.structure_volumes import check_disjoint, structure_map
from vol3d.data.visit import MAIN_LABELS, Visit
from vol3d.errors import ConfigError, DataError
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
)

Coding = Literal["bits", "one_hot"]


def disjoint(structures: dict[str, Ids]) -> dict[str, Ids]:
    """Structures that share no label."""
    check_disjoint(structures)
    return structures


def each_once(names: list[str]) -> list[str]:
    """Names of which none comes twice."""
    if twice := [n for n in dict.fromkeys(names) if names.count(n) > 1]:
        raise ValueError(f"{twice[0]} is named twice")
    return names


Raters = Annotated[Names, AfterValidator(each_once)]
"""Names of label maps: MAIN_LABELS, or those of raters."""
Structures = Annotated[dict[str, Ids], BeforeValidator(without_nulls), AfterValidator(disjoint)]
"""What to find: names as in the covariates (ventricles_ml), and the labels that make each. Null takes
away one of a config beneath."""


class Labels(Target):
    """A label map of each visit, coded as numbers of -1 and 1."""

    learns_from: ClassVar = Dataset
    kind: Literal["labels"] = "labels"
    of: Raters = [MAIN_LABELS]
    """Which label map: that of labels_entities, or of a rater; of several, one at random each time."""
    structures: Structures = {}
    """What is drawn: {hippocampus_ml: [17, 53]}; every label by itself if none are named."""
    coding: Coding = "bits"
    """bits: a channel each for the binary digits of a label's number (analog bits, Chen et al. 2023,
    arXiv:2208.04202); one_hot: a channel for each label."""
    low: Literal[-1, 0] = -1
    """The number of a digit that is not set; one that is set is 1."""
    patch: Patches = None
    """Train on random patches of so many voxels; null trains on whole volumes."""
    augment: Augment = Augment()
    """Random changes of training images, all of a visit alike."""

    @property
    def label_maps(self) -> list[str]:
        """See `Target.label_maps`."""
        return self.of

    def check(self, visits: Sequence[Visit]) -> None:
        """See `Target.check`."""
        check_found(self.structures, self.of, visits, "task.target.structures")

    def samples(self, data: Dataset, images: Sequence[str]) -> "LabelSamples":
        """See `Target.samples`.

        Raises:
            ConfigError: nobody has a label map that is named.
            DataError: some who are held out have labels that nobody else has.
        """
        visits = Source(data, one_of=self.of, may=images)
        for name in self.of:
            if not visits.has_map(name):
                raise ConfigError(
                    f"target.of: no visit has a label map '{name}'; see labels_entities and raters"
                )
        values = [*range(len(self.structures) + 1)]
        if not self.structures:
            values = sorted({v for name in self.of for v in labels_in(visits.train, name)})
            new = {v for name in self.of for v in labels_in(visits.val, name)} - {*values}
            if new:
                raise DataError(
                    f"{data.path}: of the people held out some have labels {sorted(new)}, which nobody "
                    f"who is learnt from has; say with target.structures which labels count"
                )
        told = (*moments(visits), maps_in(visits, images), values)
        return LabelSamples(visits, self.coded(*told), self)

    def dry_samples(self, data: FakeImages) -> "LabelSamples":
        """See `Target.dry_samples`."""
        values = [*range(max(2, len(self.structures) + 1))]
        return LabelSamples(data, self.coded(0.0, 1.0, {}, values), self)

    def codec(
        self, bundle: Bundle, device: torch.device | str, precision: Precision
    ) -> "LabelCodec":
        """See `Target.codec`."""
        with understood(bundle.path / "fingerprint.json"):
            return self.coded(**bundle.fingerprint()[DRAWN])

    def coded(
        self, shift: float, scale: float, maps: Mapping[str, list[int]], values: Sequence[int]
    ) -> "LabelCodec":
        """The codec of these labels."""
        names = list(self.structures) or [f"label{v}" for v in values if v]
        return LabelCodec(shift, scale, maps, values, self.coding, self.low, names)


class LabelCodec(VolumeCodec):
    """Labels by their place in a list of values.

    Args:
        shift: see `VolumeCodec`.
        scale: likewise.
        maps: likewise.
        values: the labels, 0 first.
        coding: see `Labels`.
        low: the number of a digit that is not set.
        structures: what the labels but 0 are called.
    """

    is_labels = True

    def __init__(
        self,
        shift: float,
        scale: float,
        maps: Mapping[str, list[int]],
        values: Sequence[int],
        coding: Coding,
        low: Literal[-1, 0] = -1,
        structures: Sequence[str] = (),
    ) -> None:
        super().__init__(shift, scale, maps)
        self.values, self.coding, self.low = [int(v) for v in values], coding, low
        self.structures = list(structures)
        bits = max(1, math.ceil(math.log2(len(values))))
        self.channels = bits if coding == "bits" else len(values)

    def dump(self) -> dict[str, Any]:
        """With the labels too."""
        return {**super().dump(), "values": self.values}

    def places(self, labels: Tensor) -> Tensor:
        """Labels -> their places in the list; of one that is not listed, the first."""
        at = torch.zeros_like(labels, dtype=torch.int64)
        for i, value in enumerate(self.values):
            at[labels == value] = i
        return at

    def encode(self, places: Tensor) -> Tensor:
        """Places in the list, [1, X, Y, Z] -> [C, X, Y, Z] of `low` and 1."""
        digits = range(self.channels)
        if self.coding == "one_hot":
            bits = torch.cat([places == i for i in digits])
        else:
            bits = torch.cat([places >> i & 1 for i in digits])
        return self.low + (1 - self.low) * bits.float()

    def decode(self, x0: Tensor, shape: tuple[int, int, int] | None = None) -> Tensor:
        """See `Codec.decode`; the most probable label."""
        places = self.probabilities(x0).argmax(1, keepdim=True)
        return torch.tensor(self.values, device=x0.device)[places]

    def probabilities(self, x0: Tensor) -> Tensor:
        """Drawn [B, C, X, Y, Z] -> of each label in the list [B, K, X, Y, Z], summing to 1.

        A number is read as the mean of what a digit may be, so it is a probability once `low` is 0. The
        digits of one voxel count as independent; digits that no label has share their part out.
        """
        p = ((x0.float() - self.low) / (1 - self.low)).clamp(0, 1)
        if self.coding == "bits":
            ones = [[i >> j & 1 for j in range(self.channels)] for i in range(len(self.values))]
            p = torch.stack(
                [
                    torch.stack(
                        [p[:, j] if bit else 1 - p[:, j] for j, bit in enumerate(row)]
                    ).prod(0)
                    for row in ones
                ],
                1,
            )
        total = p.sum(1, keepdim=True)
        nothing = torch.zeros_like(p)
        nothing[:, 0] = 1
        return torch.where(total > 0, p / total.clamp(min=1e-12), nothing)


class LabelSamples(VolumeSamples):
    """The visits' label maps: of one name, or of raters."""

    def __init__(self, images: Source | FakeImages, codec: LabelCodec, target: Labels) -> None:
        patch: Patch | None = target.patch
        super().__init__(images, codec, target.augment, patch)
        self.of, self.structures = target.of, target.structures

    def rater(self, there: Mapping[str, Tensor], rng: torch.Generator | None) -> int:
        """One at random of those who outlined this visit, or the first."""
        raters = [i for i, name in enumerate(self.of) if name in there]
        several = rng is not None and len(raters) > 1
        return raters[int(torch.randint(len(raters), (), generator=rng)) if several else 0]

    def x0(self, there: Mapping[str, Tensor], rater: int) -> Tensor:
        """The places of its labels."""
        labels = there[self.of[rater]]
        if self.structures:
            labels = structure_map(labels, self.structures)
        return self.codec.places(labels)

    def encoded(self, x0: Tensor) -> Tensor:
        """Its digits."""
        return self.codec.encode(x0)
