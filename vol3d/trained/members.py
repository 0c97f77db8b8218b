"""Where the members of an ensemble come from: any trained segmenter, asked with seed after seed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from vol3d.bundle import READY, Bundle
from vol3d.data.dataset import SPACING
from vol3d.data.images import has_common_grid
from vol3d.errors import ConfigError
from vol3d.trained.generator import TrainedGenerator
from vol3d.trained.sampling import guidance_scales
from vol3d.trained.segmenter import TrainedSegmenter
from vol3d.volume import Grid


class Members(Protocol):
    """A segmenter of any kind, whose answer may differ from seed to seed.

    Attributes:
        path: of its bundle.
        checksum: of its bundle.
        structures: what it finds, in the order of its labels from 1.
        labels: that made each structure in the label maps that it learnt from; {} where it is not known.
        contrasts: the images that it takes; any single one if empty.
        fingerprint: of what it was trained on.
        grids: those of the scans it was trained on, the finest first.
        is_random: its answer depends on the seed.
        calls: of the network for one member.
        unfinished: see `vol3d.trained.generator.TrainedGenerator`.
        needs_its_grid: it was told where voxels lie on the one grid that it learnt on.
    """

    path: Path
    checksum: str
    structures: list[str]
    labels: dict[str, list[int | str]]
    contrasts: list[str]
    fingerprint: dict[str, Any]
    grids: list[Grid]
    is_random: bool
    calls: int
    needs_its_grid: bool
    unfinished: list[str]

    def members(
        self, images: Mapping[str, Tensor], seeds: Sequence[int], grid: Grid
    ) -> Iterator[Tensor]:
        """The probability of each label by each member, [1 + structures, X, Y, Z], one after another.

        Args:
            images: [1, X, Y, Z] in [0, 1] by contrast, on `grid`; what is missing is not there.
            seeds: of the members. A member depends on its own seed alone. A segmenter that is not
                random answers once, whatever the seeds.
            grid: of the images, in RAS+.
        """


class DiffusionSegmenter:
    """A diffusion model that draws label maps; see `Members`."""

    is_random = True

    def __init__(
        self,
        path: Path | str,
        device: torch.device | str = "cpu",
        sampler: dict[str, Any] | None = None,
    ) -> None:
        self.model = TrainedGenerator(path, device, sampler)
        if not self.model.codec.is_labels:
            raise ConfigError(f"{path}: draws images, not label maps; it is no segmenter")
        if not self.model.channels:
            raise ConfigError(
                f"{path}: draws label maps without seeing an image; it is no segmenter. Train with "
                f"'task.conditions.image={{kind: image, of: T1w}}'"
            )
        self.path, self.checksum = self.model.path, self.model.checksum
        self.structures: list[str] = self.model.codec.structures
        self.labels = getattr(self.model.target, "structures", {})
        self.contrasts = list(self.model.channels)
        self.fingerprint, self.grids = self.model.fingerprint, self.model.grids
        self.needs_its_grid = self.model.wants_coordinates and has_common_grid(self.fingerprint)
        self.unfinished = self.model.unfinished

    @property
    def calls(self) -> int:
        """See `Members`: by solver and steps, and again for each scale that guides."""
        sampler, model = self.model.sampler, self.model
        scales = guidance_scales(sampler, model.schema, model.scales)
        return sampler.solver.calls(sampler.steps) * (1 + len({*scales.values()} - {1.0}))

    def members(
        self, images: Mapping[str, Tensor], seeds: Sequence[int], grid: Grid
    ) -> Iterator[Tensor]:
        """See `Members.members`. As many are drawn at a time as the sampler's micro_batch says.

        Covariates are not asked for. Those with `absent: null` stay unknown; of the others, which the
        model may never have been without, one draw is told to all members: a random age for each would
        count as doubt about the image.

        A seed always has the same place in its batch, since arithmetic can differ from place to place.
        """
        size = self.model.sampler.micro_batch
        told = {SPACING: grid.spacing[0]} if SPACING in self.model.schema.names else {}
        row = self.model.complete(told, seed=0)
        for first in range(min(seeds) // size * size, max(seeds) + 1, size):
            batch = [*range(first, first + size)]
            if not {*batch} & {*seeds}:
                continue
            x0 = self.model.draw([row] * size, batch, [images] * size, grid)
            for seed, probabilities in zip(batch, self.model.codec.probabilities(x0), strict=True):
                if seed in seeds:
                    yield probabilities


def open_members(
    path: Path | str,
    device: torch.device | str = "cpu",
    sampler: dict[str, Any] | None = None,
) -> Members:
    """The segmenter at a path, of whichever kind.

    Args:
        path: a bundle or a run; `ready` is the segmenter that comes with vol3d.
        device: where it runs.
        sampler: changes to the sampler of a diffusion model.

    Raises:
        ConfigError: it is no segmenter.
    """
    kind = kind_at(path)
    if kind == "diffusion":
        return DiffusionSegmenter(path, device, sampler)
    if sampler and kind == "segmenter":
        raise ConfigError(f"sampler: {path} is no diffusion model, and has none")
    return TrainedSegmenter(path, device)


def open_all(
    paths: Sequence[Path],
    device: torch.device | str,
    changes: dict[str, Any],
    samplers: Sequence[dict[str, Any] | None] | None = None,
) -> list[Members]:
    """Segmenters of one ensemble.

    Args:
        paths: see `open_members`.
        device: likewise.
        changes: to the samplers of those that are diffusion models.
        samplers: of each, or None for one that has none; instead of changes.

    Raises:
        ConfigError: one is no segmenter; changes where none is a diffusion model.
    """
    are_diffusion = [kind_at(path) == "diffusion" for path in paths]
    if changes and not any(are_diffusion):
        said = "micro_batch" if [*changes] == ["micro_batch"] else "sampler"
        raise ConfigError(f"{said}: {paths[0]} is no diffusion model, and has no sampler")
    each = samplers or [changes if it_is else None for it_is in are_diffusion]
    return [open_members(p, device, c) for p, c in zip(paths, each, strict=True)]


def kind_at(path: Path | str) -> str:
    """What the bundle at a path is."""
    return "segmenter" if Path(path) == READY else str(Bundle(path).config.get("kind"))
