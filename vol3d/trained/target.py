"""What a diffusion model draws: a target says what it learns from, and how that becomes volumes again."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from vol3d.bundle import Bundle
from vol3d.config import Config
from vol3d.data.patches import Place, whole
from vol3d.data.visit import Visit
from vol3d.nn.precision import Precision
from vol3d.volume import Grid

WEIGHT = "weight"
"""How much a sample counts in the loss, [] (see `vol3d.data.patches.Patch`)."""
WHOLE, START = "whole", "start"
"""The whole that a patch is of, [C, X, Y, Z], at least as large, and where in it it begins, [3]."""
Shape = tuple[int, ...]
"""[C, X, Y, Z] of what is drawn."""


class Codec(ABC):
    """From volumes to what is drawn, of zero mean and unit variance or between -1 and 1, and back.

    Attributes:
        channels: of what is drawn.
        is_labels: it draws label maps, not images.
        brain_level: where the brain ends in an image that it decodes; None: it is no stripped brain.
    """

    channels: int
    is_labels = False
    brain_level: float | None = None

    @abstractmethod
    def shape_on(self, grid: Grid) -> Shape:
        """Of what is drawn for a volume on a grid."""

    @abstractmethod
    def decode(self, x0: Tensor, shape: tuple[int, int, int] | None = None) -> Tensor:
        """Drawn [B, C, x, y, z] -> volumes [B, 1, *shape]: images in [0, 1], or labels.

        Without a shape all that a latent holds.
        """

    @abstractmethod
    def encode_given(self, name: str, x: Tensor) -> Tensor:
        """An image [1, X, Y, Z] in [0, 1], or a label map of a visit -> [K, x, y, z], to guide by."""

    @abstractmethod
    def known_beside(self, hole: Tensor) -> Tensor:
        """What stays known of what is drawn where voxels [X, Y, Z] are to be drawn anew; [1, x, y, z]."""

    def given_channels(self, name: str) -> int:
        """How many channels (K) such an image or label map has."""
        return self.channels


class Samples(Protocol):
    """The training side of a target: visits, and what is drawn of each.

    Attributes:
        path: of the data, for messages.
        train: the visits to learn from.
        val: those held out.
        codec: back to volumes; None in a dry run, which has no autoencoder.
        channels: of what is drawn.
    """

    path: Path
    train: list[Visit]
    val: list[Visit]
    codec: Codec | None
    channels: int

    def given_channels(self, name: str) -> int:
        """Of an image or label map that guides.

        Raises:
            ConfigError: no visit has it.
        """

    def sample(
        self,
        visit: Visit,
        images: Sequence[str],
        rng: torch.Generator | None,
        *,
        with_whole: bool = False,
    ) -> dict[str, Tensor | None]:
        """`x0` [C, X, Y, Z], `coordinates`, `weight`, and images that guide [K, X, Y, Z] or None.

        On the grid of the images `rater` too: whose label map is drawn, as a place in `target.of`.

        Args:
            visit: of which.
            images: that guide, by name.
            rng: for a draw or a patch; without it the whole, and the mean.
            with_whole: `whole` and `start` too, of a target that has patches.
        """

    def documents(self) -> dict[str, Any]:
        """What a bundle must keep, by name; `fingerprint` at least."""

    def inside(self) -> dict[str, Any]:
        """Bundles that are kept within the bundle, by name."""


class Target(Config, ABC):
    """See `vol3d.trained.targets`."""

    learns_from: ClassVar[type]

    @property
    def label_maps(self) -> list[str]:
        """The label maps that are drawn."""
        return []

    def check(self, visits: Sequence[Visit]) -> None:
        """Refuse, by a DataError, data in which something to be drawn is nowhere to be seen."""

    @abstractmethod
    def samples(self, data: Any, images: Sequence[str]) -> Samples:
        """The training side, for a data set and the images that guide."""

    @abstractmethod
    def dry_samples(self, data: Any) -> Samples:
        """The same for data that nobody took, or without the autoencoder; nothing is computed."""

    @abstractmethod
    def codec(self, bundle: Bundle, device: torch.device | str, precision: Precision) -> Codec:
        """Back to volumes, as a bundle keeps it."""


def coordinates(
    shape: Sequence[int], place: Place | None = None, device: torch.device | str = "cpu"
) -> Tensor:
    """[3, x, y, z] where each voxel lies, from -1 to 1 along each axis; 0 on an axis of one voxel.

    Args:
        shape: of the whole volume.
        place: of a patch in it, which may reach beyond; None: the whole.
        device: of the result.
    """
    place = place or whole(shape)
    axes = [
        2 * torch.arange(start, start + size, device=device) / (n - 1) - 1
        if n > 1
        else torch.zeros(size, device=device)
        for n, start, size in zip(shape, place.start, place.size, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def flagged(
    sample: Mapping[str, Tensor | None], channels: Mapping[str, int], keep: Mapping[str, bool]
) -> dict[str, Tensor]:
    """The images that guide, each with its flag for known; zeros for what is missing or hidden.

    Args:
        sample: of one visit, see `Samples.sample`.
        channels: of each image that guides.
        keep: false for what is to be hidden.
    """
    shape = sample["x0"].shape[1:]
    out = {}
    for name, K in channels.items():
        x = sample.get(name) if keep.get(name, True) else None
        values = torch.zeros(K, *shape) if x is None else x
        out[name] = torch.cat([values, torch.full((1, *shape), float(x is not None))])
    return out
