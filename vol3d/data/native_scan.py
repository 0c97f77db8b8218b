"""The images of a visit where they lie, as networks see them on any grid; and the way back."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vol3d.data.network_images import as_seen, onto, within
from vol3d.data.scan_checks import SAME_MM, check_contrast, ras_grid
from vol3d.data.visit import Visit
from vol3d.io.header import Header, codes_of, read_header
from vol3d.io.reading import naming
from vol3d.volume import Grid, Volume

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class NativeScan:
    """The images of a visit, all on the grid of the first.

    Attributes:
        header: of the first image: where results go.
        brains: images in RAS+ by contrast, with 0 outside the brain mask.
        paths: of the images by contrast.
    """

    header: Header
    brains: dict[str, Volume]
    paths: dict[str, Path]

    @classmethod
    def read(cls, visit: Visit, contrasts: Collection[str]) -> "NativeScan":
        """Read those of the contrasts that are there.

        Raises:
            DataError: an image is not as it should be, has nothing in it, or the mask lies elsewhere.
        """
        headers = {
            name: read_header(path, visit.form)
            for name, path in visit.images.items()
            if name in contrasts
        }
        assert headers, f"{visit.who} has none of {contrasts}"
        mask = visit.mask and read_header(visit.mask, visit.form)
        return cls.of(headers, mask)

    @classmethod
    def of(cls, headers: Mapping[str, Header], mask: Header | None = None) -> "NativeScan":
        """The same of images by contrast, on disk or in memory."""
        first, brains = next(iter(headers.values())), {}
        grid, inside = ras_grid(first), mask and volume_of(mask)
        for name, header in headers.items():
            volume = volume_of(header).reorient("RAS")
            check_contrast(volume, header.path)
            if not volume.grid.matches(grid, SAME_MM):
                log.warning(
                    "warning: %s: lies on a grid of %s, and is resampled to that of %s, %s",
                    *(header.path, volume.grid, first.path.name, grid),
                )
                with naming(header.path):
                    volume = onto(volume, grid)
            brains[name] = volume if inside is None else within(volume, inside, mask.path)
        return cls(first, brains, {name: header.path for name, header in headers.items()})

    @property
    def grid(self) -> Grid:
        """That of the first image, in RAS+."""
        return ras_grid(self.header)

    def seen_on(self, grid: Grid) -> dict[str, Tensor]:
        """[1, X, Y, Z] in [0, 1] by contrast, on a grid in RAS+."""
        return {n: torch.from_numpy(as_seen(b, grid).data)[None] for n, b in self.brains.items()}

    def brought_back(self, probabilities: Tensor, grid: Grid) -> Tensor:
        """Probabilities of labels on a grid -> on the scan's own, in RAS+: [1 + S, X, Y, Z].

        Those of structures are moved linearly; the rest is background, as is all that lies outside.
        """
        if grid.matches(self.grid):
            return probabilities
        moved = [
            Volume(p, grid.affine).resample(self.grid, keep_zeros=False).data
            for p in probabilities[1:].cpu().numpy()
        ]
        found = torch.from_numpy(np.stack(moved)).clamp(0, 1)  # [S, X, Y, Z]
        return torch.cat([(1 - found.sum(0, keepdim=True)).clamp(min=0), found])

    def native(self, data: np.ndarray) -> Volume:
        """[X, Y, Z] in RAS+ -> a volume that lies as the first image in its file."""
        return Volume(self.turned_back(data), self.header.affine, self.header.space_code)

    def write(self, data: np.ndarray, path: Path, *, slope: float | None = None) -> None:
        """Write [X, Y, Z] in RAS+ as the first image lies in its file."""
        self.native(data).write(path, slope=slope, codes=codes_of(self.header))

    def turned_back(self, data: np.ndarray) -> np.ndarray:
        """[X, Y, Z] in RAS+ -> in the order of the file."""
        codes = Grid(self.header.shape, self.header.affine).orientation
        return Volume(data, self.grid.affine).reorient(codes).data


def volume_of(header: Header) -> Volume:
    """The volume; warns of what is in doubt about its place."""
    if header.doubt:
        log.warning("warning: %s: %s", header.path, header.doubt)
    return Volume.of(header)
