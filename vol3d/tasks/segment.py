"""The segmenter's training: find a few structures, to measure what a generator made."""

import re
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.data.augment import Augment
from vol3d.data.dataset import Dataset
from vol3d.data.fake import FakeImages
from vol3d.data.images import Images
from vol3d.data.montage import montage
from vol3d.data.patches import cropped
from vol3d.data.structure_volumes import Labels, label_ids
from vol3d.data.tables import few
from vol3d.data.visit import MAIN_LABELS, Visit
from vol3d.errors import DataError
from vol3d.models.segmenters import Segmenter
from vol3d.tasks.autoencode import on
from vol3d.tasks.job import Batch, Runner
from vol3d.tasks.model_card import model_card

SIDE = re.compile(r"(^|[_-])(left|right|lh|rh|l|r)([_-]|$)", re.IGNORECASE)
"""What the name of a structure says that is on one side only."""


class Segment(Config):
    """Train a segmenter on scans with label maps."""

    learns_from: ClassVar = Dataset
    kind: Literal["segment"] = "segment"
    model: Segmenter
    """The network."""
    structures: dict[str, Labels]
    """What to find: names as in the covariates (ventricles_ml), and the labels that make each."""
    patch: tuple[int, int, int] | None = None
    """Train on random patches of so many voxels; null trains on whole volumes."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability that left and right are exchanged in a training image."""
    brightness: float = Field(default=0.1, ge=0)
    """Largest relative change of a training image's intensities, so that contrast varies."""
    augment: Augment = Augment()
    """Further random changes of a training image and its label map; all are off unless they are set."""

    @model_validator(mode="after")
    def check_overlap(self) -> "Segment":
        """A voxel is in one structure at most."""
        seen: dict[int, str] = {}
        for name, labels in self.structures.items():
            for label in label_ids(labels):
                if label in seen:
                    raise ValueError(f"structures: label {label} is in {seen[label]} and in {name}")
                seen[label] = name
        sided = [name for name in self.structures if SIDE.search(name)]
        if self.flip and sided:
            raise ValueError(
                f"structures: {', '.join(sided)} has a side, and flip={self.flip} would exchange left "
                f"and right; set flip=0"
            )
        return self

    def check(self, scans: list[Visit]) -> list[str]:
        """Who cannot be learnt from.

        Raises:
            DataError: nobody can.
        """
        without = [s.who for s in scans if not s.labels]
        if len(without) == len(scans):
            raise DataError(
                "no scan has a label map, which this task learns from; see labels_entities"
            )
        return [f"{len(without)} of {len(scans)} scans have no label map: {few(without)}"] * bool(
            without
        )

    def job(self, data: Dataset) -> "SegmentJob":
        """Read the scans and build the network."""
        return SegmentJob(self, Images(data, needs=[MAIN_LABELS]))

    def fake_job(self, images: FakeImages) -> "SegmentJob":
        """The job on scans that nobody took."""
        return SegmentJob(self, images)


class SegmentJob:
    """A segmenter in training; see `vol3d.tasks.job.Job`."""

    title = "segmenter"
    whole_weights = None

    def __init__(self, task: Segment, images: Images | FakeImages) -> None:
        self.task, self.images, self.scans = task, images, images.train
        self.names = list(task.structures)
        self.nets: dict[str, nn.Module] = {
            "segmenter": task.model.build(in_channels=1, num_labels=len(self.names) + 1)
        }
        self.optims: dict[str, Any] = {}
        self.averaged = ["segmenter"]
        from monai.losses import DiceCELoss  # here: MONAI takes seconds to load

        self.criterion = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False)

    def targets(self, labels: np.ndarray) -> Tensor:
        """The data set's labels as ours: 0 none, i + 1 the i-th structure."""
        out = np.zeros(labels.shape, np.int64)
        for i, name in enumerate(self.names):
            out[np.isin(labels, label_ids(self.task.structures[name]))] = i + 1
        return torch.from_numpy(out)

    def draw(self, scan: Visit, rng: torch.Generator) -> dict[str, Tensor]:
        """A scan with its structures, augmented, flipped or not, a little brighter or darker."""
        images, labels = self.task.augment.augmented(
            {"x": torch.from_numpy(self.images.image(scan))},
            {"target": self.targets(self.images.labels(scan))},
            self.images.grid_of(scan).spacing,
            rng,
        )
        both = torch.cat([images["x"], labels["target"].float()])
        if torch.rand((), generator=rng) < self.task.flip:
            both = both.flip(1)  # X is left to right
        both = cropped({"x": both}, self.task.patch, rng)["x"]
        change = (2 * torch.rand((), generator=rng) - 1) * self.task.brightness
        return {"x": (both[:1] * (1 + change)).clamp(0, 1), "target": both[1:]}

    def losses(self, engine: Runner, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Dice and cross-entropy."""
        with engine.autocast():
            logits = engine.call("segmenter", on(engine, batch.tensors["x"]))
        yield (
            "segmenter",
            {"dice_ce": self.criterion(logits.float(), batch.tensors["target"].to(engine.device))},
        )

    @torch.inference_mode()
    def predict(self, engine: Runner, scans: list[Visit]) -> Iterator[tuple[Visit, Tensor, Tensor]]:
        """Each scan with its probabilities [1 + S, X, Y, Z] and its targets [X, Y, Z]."""
        net = engine.averaged["segmenter"].eval()
        for scan in scans:
            x, labels = self.images.image(scan), self.images.labels(scan)
            logits = net(on(engine, torch.from_numpy(x)[None])).float()
            yield scan, logits.softmax(1)[0].cpu(), self.targets(labels)[0]

    def validate(self, engine: Runner) -> dict[str, float]:
        """Dice of each structure on up to eight held-out scans."""
        return self.agreement(engine, self.images.val[:8])

    def agreement(self, engine: Runner, scans: list[Visit]) -> dict[str, float]:
        """Mean Dice overlap, and mean absolute error in ml, per structure."""
        found: dict[str, list[float]] = {}
        for scan, p, target in self.predict(engine, scans):
            label = p.argmax(0)
            for i, name in enumerate(self.names, start=1):
                mine, truth = label == i, target == i
                dice = 2 * (mine & truth).sum() / ((mine.sum() + truth.sum()).clamp(min=1))
                off = (p[i].sum() - truth.sum()).abs() * self.images.grid_of(scan).voxel_ml
                found.setdefault(f"dice_{name.removesuffix('_ml')}", []).append(dice.item())
                found.setdefault(f"mae_{name}", []).append(off.item())
        return {k: float(np.mean(v)) for k, v in found.items()}

    def preview(self, engine: Runner) -> np.ndarray:
        """Two held-out scans; below, their structures as found and as they should be."""
        rows = []
        scans = self.images.val or self.images.train
        scans = [s for s in scans if s.res == scans[0].res][:2]
        for scan, p, target in self.predict(engine, scans):
            shades = [t.numpy() / len(self.names) for t in (p.argmax(0), target)]
            rows.append(montage([self.images.image(scan)[0], *shades]))
        return np.vstack(rows)

    def bundle(self, engine: Runner) -> dict[str, Any]:
        """The averaged segmenter with its overlap on all held-out people."""
        val = self.images.val
        quality = {"n": len(val), **self.agreement(engine, val)} if val else {}
        fingerprint = self.images.fingerprint()
        return {
            "config": {
                "kind": "segmenter",
                "model": self.task.model.dump(),
                "structures": self.names,
            },
            "weights": engine.averaged["segmenter"].state_dict(),
            "documents": {"fingerprint": fingerprint, "quality": quality},
            "card": model_card(
                "segmenter",
                f"finds {', '.join(self.names)} in brains",
                fingerprint,
                quality,
            ),
        }
