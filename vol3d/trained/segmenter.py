"""A trained segmenter: label maps and volumes in ml of a few structures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from vol3d.bundle import Bundle
from vol3d.config import Config
from vol3d.data.images import grids_of, has_common_grid
from vol3d.data.structure_volumes import Labels
from vol3d.errors import ConfigError, DataError
from vol3d.trained.autoencoder import channels_last
from vol3d.trained.segmenter_networks import Segmenter
from vol3d.trained.target import flagged
from vol3d.volume import Grid


class SegmenterBundle(Config):
    """The config in a segmenter's bundle."""

    kind: Literal["segmenter"] = "segmenter"
    model: Segmenter
    """The network."""
    structures: list[str]
    """What it finds, in the order of its labels from 1; names end in their unit, _ml."""
    contrasts: list[str] = []
    """The images that it takes, by name; any single one where none is named."""
    labels: dict[str, Labels] = {}
    """The labels that made each structure in the label maps that it learnt from."""


class TrainedSegmenter:
    """Finds structures in whole volumes, and measures them.

    Attributes:
        structures: what it finds, in the order of its labels from 1.
        contrasts: the images that it takes; any single one if empty.
        grids: those of the scans it was trained on, the finest first.
        labels: see `vol3d.trained.members.Members`.
        is_random: likewise.
        needs_its_grid: likewise; it does where the features are of a generator that knows places.
        calls: likewise.
        unfinished: likewise; it never is.
    """

    calls: ClassVar[int] = 1
    unfinished: ClassVar[list[str]] = []

    def __init__(self, path: Path | str, device: torch.device | str = "cpu") -> None:
        bundle = Bundle(path, "segmenter")
        self.path, self.checksum = bundle.path, bundle.checksum
        settings = bundle.settings(SegmenterBundle)
        self.structures, self.contrasts = settings.structures, settings.contrasts
        self.labels = settings.labels
        self.quality: dict = bundle.document("quality")
        self.fingerprint: dict = bundle.fingerprint()
        self.grids = grids_of(self.fingerprint)
        self.needs_its_grid = settings.model.knows_place and has_common_grid(self.fingerprint)
        self.is_random = settings.model.dropout > 0
        self.net = settings.model.build(
            in_channels=channels_of(self.contrasts), num_labels=len(self.structures) + 1
        )
        bundle.fill(self.net)
        self.net.to(device, memory_format=torch.channels_last_3d).eval()
        self.device = torch.device(device)

    def check_grid(self, grid: Grid) -> None:
        """It measures voxels of a size that it knows, in one image.

        Raises:
            DataError: those of the grid are larger or smaller, or lie elsewhere and it knows places.
            ConfigError: it takes several images.
        """
        if len(self.contrasts) > 1:
            raise ConfigError(
                f"{self.path}: takes {' and '.join(self.contrasts)}; take a segmenter of one image here"
            )
        if not any(np.allclose(g.spacing, grid.spacing, rtol=0.01) for g in self.grids):
            raise DataError(
                f"{self.path}: learnt from voxels of {self.grids[0].spacing} mm, these images have "
                f"{grid.spacing} mm; train one on such"
            )
        if self.needs_its_grid and not any(g.matches(grid, 0.01) for g in self.grids):
            raise DataError(
                f"{self.path}: knows only the grid that it learnt on, {self.grids[0]}; these images lie "
                f"on {grid}"
            )

    @torch.inference_mode()
    def probabilities(self, x: Tensor, seed: int | None = None) -> Tensor:
        """x [B, C, X, Y, Z] in [0, 1] -> [B, 1 + structures, X, Y, Z]; of a seed, with dropout."""
        seeds = [] if seed is None else [torch.full((len(x),), seed)]
        return self.net(channels_last(x.to(self.device)), *seeds).float().softmax(1)

    def segment(self, x: Tensor) -> Tensor:
        """The most probable label of each voxel, [B, X, Y, Z]; 0 is none of the structures."""
        return self.probabilities(x).argmax(1)

    def measure(self, x: Tensor, voxel_ml: float) -> list[dict[str, float]]:
        """Volumes in ml of each image: probabilities summed, so that partial voxels count in part."""
        ml = self.probabilities(x)[:, 1:].sum((2, 3, 4)) * voxel_ml  # [B, structures]
        return [dict(zip(self.structures, row, strict=True)) for row in ml.tolist()]

    def members(
        self, images: Mapping[str, Tensor], seeds: Sequence[int], grid: Grid
    ) -> Iterator[Tensor]:
        """See `vol3d.trained.members.Members`: each by its dropout; without dropout one for all."""
        names = self.contrasts or list(images)[:1]
        x = stacked({n: images.get(n) for n in names}, names)[None]
        for seed in seeds if self.is_random else [None]:
            yield self.probabilities(x, seed)[0]


def channels_of(contrasts: Sequence[str]) -> int:
    """How many channels images fill: one by itself, or each with its flag for known."""
    return 2 * len(contrasts) if len(contrasts) > 1 else 1


def stacked(images: Mapping[str, Any], contrasts: Sequence[str]) -> Tensor:
    """Images [1, X, Y, Z] by contrast -> what the network sees, [C, X, Y, Z] (see `channels_of`)."""
    if len(contrasts) <= 1:
        return images[contrasts[0]]
    known = next(x for n in contrasts if (x := images[n]) is not None)
    sample = {"x0": known, **{n: images[n] for n in contrasts}}
    return torch.cat([*flagged(sample, dict.fromkeys(contrasts, 1), {}).values()])
