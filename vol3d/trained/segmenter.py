"""A trained segmenter: label maps and volumes in ml of a few structures."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vol3d.bundle import Bundle
from vol3d.config import Config
from vol3d.data.images import grids_of
from vol3d.errors import DataError
from vol3d.models.segmenters import Segmenter
from vol3d.trained.autoencoder import channels_last
from vol3d.volume import Grid


class SegmenterBundle(Config):
    """The config in a segmenter's bundle."""

    kind: Literal["segmenter"] = "segmenter"
    model: Segmenter
    """The network."""
    structures: list[str]
    """What it finds, in the order of its labels from 1; names end in their unit, _ml."""


class TrainedSegmenter:
    """Finds structures in whole volumes, and measures them.

    Attributes:
        grids: those of the scans it was trained on, the finest first.
    """

    def __init__(self, path: Path | str, device: torch.device | str = "cpu") -> None:
        bundle = Bundle(path, "segmenter")
        self.path, self.checksum = bundle.path, bundle.checksum
        settings = bundle.settings(SegmenterBundle)
        self.structures = settings.structures
        self.quality: dict = bundle.document("quality")
        self.fingerprint: dict = bundle.fingerprint()
        self.grids = grids_of(self.fingerprint)
        self.net = settings.model.build(in_channels=1, num_labels=len(self.structures) + 1)
        bundle.fill(self.net)
        self.net.to(device, memory_format=torch.channels_last_3d).eval()
        self.device = torch.device(device)

    def check_grid(self, grid: Grid) -> None:
        """It measures voxels of a size that it knows.

        Raises:
            DataError: those of the grid are larger or smaller.
        """
        if not any(np.allclose(g.spacing, grid.spacing, rtol=0.01) for g in self.grids):
            raise DataError(
                f"{self.path}: learnt from voxels of {self.grids[0].spacing} mm, these images have "
                f"{grid.spacing} mm; train one on such"
            )

    @torch.inference_mode()
    def probabilities(self, x: Tensor) -> Tensor:
        """x [B, 1, X, Y, Z] in [0, 1] -> [B, 1 + structures, X, Y, Z]."""
        return self.net(channels_last(x.to(self.device))).float().softmax(1)

    def segment(self, x: Tensor) -> Tensor:
        """The most probable label of each voxel, [B, X, Y, Z]; 0 is none of the structures."""
        return self.probabilities(x).argmax(1)

    def measure(self, x: Tensor, voxel_ml: float) -> list[dict[str, float]]:
        """Volumes in ml of each image: probabilities summed, so that partial voxels count in part."""
        ml = self.probabilities(x)[:, 1:].sum((2, 3, 4)) * voxel_ml  # [B, structures]
        return [dict(zip(self.structures, row, strict=True)) for row in ml.tolist()]
