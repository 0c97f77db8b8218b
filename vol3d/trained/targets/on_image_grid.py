"""What is drawn on the grid of the images themselves: visits, patches, and images that guide."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vol3d.data.augment import Augment
from vol3d.data.fake import FakeImages
from vol3d.data.images import Images
from vol3d.data.label_map import whole_labels
from vol3d.data.patches import Patch, whole
from vol3d.data.visit import Visit
from vol3d.diffusion.conditioning import COORDINATES, RATER
from vol3d.errors import ConfigError, DataError
from vol3d.trained.target import START, WEIGHT, WHOLE, Codec, Shape, coordinates
from vol3d.volume import Grid, Volume

MEASURED = 32
"""Training visits, evenly chosen, that intensities are measured in."""
DRAWN = "drawn"
"""Under this the fingerprint keeps what a codec is made of."""


class VolumeCodec(Codec):
    """On the grid of the images; images that guide are standardised, label maps a channel a label.

    Args:
        shift: mean of all voxels of the training images.
        scale: their standard deviation.
        maps: the labels of each label map that guides, by name.
    """

    def __init__(self, shift: float, scale: float, maps: Mapping[str, list[int]]) -> None:
        self.shift, self.scale, self.maps = float(shift), float(scale), dict(maps)

    def shape_on(self, grid: Grid) -> Shape:
        """The grid's own."""
        return self.channels, *grid.shape

    def encode_given(self, name: str, x: Tensor) -> Tensor:
        """See `Codec.encode_given`."""
        return one_hot(x, self.maps[name]) if name in self.maps else self.standardised(x)

    def known_beside(self, hole: Tensor) -> Tensor:
        """Every other voxel."""
        return (~hole)[None].float()

    def given_channels(self, name: str) -> int:
        """A channel a label, or one."""
        return len(self.maps.get(name, [0]))

    def standardised(self, x: Tensor) -> Tensor:
        """Zero mean and unit variance, over all voxels of the training images."""
        return (x - self.shift) / self.scale

    def dump(self) -> dict[str, Any]:
        """What it is made of, as plain values."""
        return {"shift": self.shift, "scale": self.scale, "maps": self.maps}


class VolumeSamples(ABC):
    """See `vol3d.trained.target.Samples`; what x0 is, a subclass says.

    Args:
        images: the visits.
        codec: of what is drawn.
        augment: random changes of all images and label maps of a visit alike.
        patch: train on random patches; None trains on whole volumes.
    """

    def __init__(
        self,
        images: Images | FakeImages,
        codec: VolumeCodec,
        augment: Augment,
        patch: Patch | None,
    ) -> None:
        self.images, self.codec, self.augment, self.patch = images, codec, augment, patch
        self.path = images.path
        self.train, self.val, self.channels = images.train, images.val, codec.channels
        self.held_out = {visit.who for visit in self.val}

    @abstractmethod
    def x0(self, there: Mapping[str, Tensor], rater: int) -> Tensor:
        """What is drawn of a visit, [1, X, Y, Z]: an image, or the places of a rater's labels in a list.

        Args:
            there: the visit's images and label maps, by name.
            rater: see `rater`.
        """

    @abstractmethod
    def encoded(self, x0: Tensor) -> Tensor:
        """The same, [C, X, Y, Z], of zero mean and unit variance or between -1 and 1."""

    def rater(self, there: Mapping[str, Tensor], rng: torch.Generator | None) -> int:
        """Whose label map is drawn, as a place in `target.of`: there is one."""
        return 0

    def check_coarse(self) -> None:
        """A coarse look is at a whole that is larger than a patch along each axis, or as large.

        Raises:
            DataError: a scan is smaller than a patch.
        """
        for visit in self.train + self.val:
            shape = self.images.grid_of(visit).shape
            if any(n < size for n, size in zip(shape, self.patch.size, strict=True)):
                raise DataError(
                    f"{visit.name}: has {shape} voxels, less than a patch, {self.patch.size}; with "
                    f"context=coarse take smaller patches"
                )

    def given_channels(self, name: str) -> int:
        """See `Samples.given_channels`."""
        there = list(dict.fromkeys(c for v in self.train for c in (*v.images, *v.labels)))
        if name not in there:
            raise ConfigError(f"conditions: no visit has '{name}'; there are {', '.join(there)}")
        return self.codec.given_channels(name)

    def sample(
        self,
        visit: Visit,
        images: Sequence[str],
        rng: torch.Generator | None,
        *,
        with_whole: bool = False,
    ) -> dict[str, Tensor | None]:
        """See `Samples.sample`."""
        there = {n: torch.from_numpy(a) for n, a in self.images.read(visit).items()}
        if rng is not None and visit.who not in self.held_out:
            pictures, maps = ({n: there[n] for n in of} for of in (visit.images, visit.labels))
            spacing = self.images.grid_of(visit).spacing
            pictures, maps = self.augment.augmented(pictures, maps, spacing, rng)
            there = {**pictures, **maps}
        rater = self.rater(there, rng)
        x0 = self.x0(there, rater)
        shape = x0.shape[1:]
        place = whole(shape)
        if rng is not None and self.patch:
            place = self.patch.place(shape, x0[0] > 0, rng)
        out = {
            "x0": self.encoded(place.of(x0)),
            COORDINATES: coordinates(shape, place),
            RATER: torch.tensor(rater),
            WEIGHT: torch.tensor(place.weight),
        }
        if with_whole:
            frame = place.frame(shape)
            start = [s - f for s, f in zip(place.start, frame.start, strict=True)]
            out |= {WHOLE: self.encoded(frame.of(x0)), START: torch.tensor(start)}
        for name in images:
            x = place.of(there[name]) if name in there else None
            out[name] = None if x is None else self.codec.encode_given(name, x)
        return out

    def documents(self) -> dict[str, Any]:
        """The fingerprint, with what the codec is made of."""
        return {"fingerprint": {**self.images.fingerprint(), DRAWN: self.codec.dump()}}

    def inside(self) -> dict[str, Any]:
        """No bundle."""
        return {}


def one_hot(labels: Tensor, values: Sequence[int]) -> Tensor:
    """Labels [1, X, Y, Z] -> [K, X, Y, Z], 1 where the label is the channel's, else 0."""
    return torch.cat([labels == v for v in values]).float()


def some_of(images: Images) -> list[Visit]:
    """Training visits that stand for all."""
    return images.train[:: max(1, len(images.train) // MEASURED)][:MEASURED]


def moments(images: Images) -> tuple[float, float]:
    """Mean and standard deviation of all voxels of the main images."""
    visits, n, total, squares = some_of(images), 0, 0.0, 0.0
    for x in map(images.image, visits):
        n, total = n + x.size, total + x.astype(np.float64).sum()
    mean = total / n
    for x in map(images.image, visits):  # one at a time: all of them may not fit the memory
        squares += ((x.astype(np.float64) - mean) ** 2).sum()
    return float(mean), float(np.sqrt(squares / n))


def maps_in(images: Images, names: Sequence[str]) -> dict[str, list[int]]:
    """The labels of those that are label maps."""
    return {name: labels_in(images.train, name) for name in names if images.has_map(name)}


def labels_in(visits: list[Visit], name: str) -> list[int]:
    """The labels that a label map has, over all of the visits, and 0."""
    paths = [(v.labels[name], v.form) for v in visits if name in v.labels]
    maps = (whole_labels(Volume.read(path, form), path).data for path, form in paths)
    return sorted({0, *(int(label) for m in maps for label in np.unique(m))})
