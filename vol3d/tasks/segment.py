"""The segmenter's training: find structures, to measure what a generator made, or to study images."""

import re
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.data.augment import Augment
from vol3d.data.dataset import Dataset, Names
from vol3d.data.dice import dice
from vol3d.data.fake import FakeImages
from vol3d.data.images import Images
from vol3d.data.label_map import check_found
from vol3d.data.montage import montage
from vol3d.data.patches import Patches
from vol3d.data.tables import few
from vol3d.data.visit import MAIN_LABELS, Visit
from vol3d.errors import ConfigError, DataError
from vol3d.tasks.autoencode import on
from vol3d.tasks.job import Batch, Runner
from vol3d.tasks.model_card import model_card
from vol3d.trained.segmenter import channels_of, stacked
from vol3d.trained.segmenter_networks import Segmenter
from vol3d.trained.target import WEIGHT
from vol3d.trained.targets.labels import Labels, LabelSamples, Raters, Structures

SIDE = re.compile(r"(^|[_-])(left|right|lh|rh|l|r)([_-]|$)", re.IGNORECASE)
"""What the name of a structure says that is on one side only."""
SEED = "seed"
"""Of an image's dropout, in a batch."""


class Segment(Config):
    """Train a segmenter on scans with label maps."""

    learns_from: ClassVar = Dataset
    kind: Literal["segment"] = "segment"
    model: Segmenter
    """The network."""
    structures: Structures
    """What to find: names as in the covariates (ventricles_ml), and the labels that make each."""
    labels: Raters = [MAIN_LABELS]
    """Which label map: that of labels_entities, or of a rater; of several, one at random each time,
    and the first to validate against."""
    contrasts: Names = []
    """The images to find it in: [T1w, FLAIR]. The first is always there, others may be missing. Without a
    name the main one."""
    hide: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which each contrast but the first is hidden in training, so that it may lack."""
    patch: Patches = None
    """Train on random patches of so many voxels; null trains on whole volumes."""
    dice: float = Field(default=1.0, ge=0)
    """Weight of 1 - Dice beside the cross-entropy. 0 where structures have a few voxels each, or where
    probabilities are to mean what they say: Dice pushes them towards 0 and 1."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability that left and right are exchanged in a training image."""
    brightness: float = Field(default=0.1, ge=0)
    """Largest relative change of a training image's intensities, so that contrast varies."""
    augment: Augment = Augment()
    """Further random changes of a training image and its label map; all are off unless they are set."""

    @model_validator(mode="after")
    def check_sides(self) -> "Segment":
        """What is on one side is not flipped."""
        sided = [name for name in self.structures if SIDE.search(name)]
        if self.flip and sided:
            raise ValueError(
                f"structures: {', '.join(sided)} has a side, and flip={self.flip} would exchange left "
                f"and right; set flip=0"
            )
        return self

    @property
    def label_maps(self) -> list[str]:
        """The label maps that it learns from."""
        return self.labels

    def check(self, scans: list[Visit]) -> list[str]:
        """Who cannot be learnt from.

        Raises:
            DataError: nobody can, nobody has one of the label maps, or none has a structure.
        """
        without = [s.who for s in scans if not {*self.labels} & {*s.labels}]
        there = sorted({name for s in scans for name in s.labels})
        if missing := [name for name in self.labels if name not in there]:
            raise DataError(
                f"no scan has a label map '{', '.join(missing)}', which this task learns from "
                f"({f'there are: {few(there)}' if there else 'nor another'}); see labels_entities"
            )
        check_found(self.structures, self.labels, scans, "task.structures")
        return [f"{len(without)} of {len(scans)} scans have no label map: {few(without)}"] * bool(
            without
        )

    def job(self, data: Dataset) -> "SegmentJob":
        """Read the scans and build the network."""
        needs = self.contrasts[:1]
        images = Images(data, needs=needs, one_of=self.labels, may=self.contrasts[1:])
        return SegmentJob(self, images)

    def fake_job(self, images: FakeImages) -> "SegmentJob":
        """The job on scans that nobody took, with no weights of another model."""
        return SegmentJob(self.model_copy(update={"model": self.model.kept()}), images)


class SegmentJob:
    """A segmenter in training; see `vol3d.tasks.job.Job`."""

    title = "segmenter"
    whole_weights = None
    uneven = None

    def __init__(self, task: Segment, images: Images | FakeImages) -> None:
        if task.patch and task.model.knows_place:
            raise ConfigError(
                "task.patch: the generator whose features are taken is told where each voxel of a volume "
                "lies, which a patch does not say; train on whole volumes (task.patch=null)"
            )
        self.task, self.images, self.scans = task, images, images.train
        self.names, self.contrasts = list(task.structures), task.contrasts or [images.main]
        target = Labels(
            of=task.labels,
            structures=task.structures,
            coding="one_hot",
            low=0,
            patch=task.patch,
            augment=task.augment,
        )
        # Images stay from 0 to 1: nothing is taken off them, and they are divided by 1.
        codec = target.coded(0.0, 1.0, {}, range(len(self.names) + 1))
        self.samples = LabelSamples(images, codec, target)
        self.nets: dict[str, nn.Module] = {
            "segmenter": task.model.build(
                in_channels=channels_of(self.contrasts), num_labels=len(self.names) + 1
            )
        }
        self.optims: dict[str, Any] = {}
        self.averaged = ["segmenter"]
        from monai.losses import DiceCELoss  # here: MONAI takes seconds to load

        self.criterion = DiceCELoss(softmax=True, include_background=False, lambda_dice=task.dice)

    def draw(self, scan: Visit, rng: torch.Generator) -> dict[str, Tensor]:
        """A scan with its structures, augmented, flipped or not, a little brighter or darker."""
        sample = self.samples.sample(scan, self.contrasts, rng)
        if torch.rand((), generator=rng) < self.task.flip:
            sample = {  # X is left to right
                n: t.flip(1) if t is not None and t.ndim == 4 else t for n, t in sample.items()
            }
        for i, name in enumerate(self.contrasts):
            x = sample[name]
            change = (2 * torch.rand((), generator=rng) - 1) * self.task.brightness
            sample[name] = None if x is None else (x * (1 + change)).clamp(0, 1)
            if i and self.task.hide and torch.rand((), generator=rng) < self.task.hide:
                sample[name] = None
        seed = torch.randint(2**62, (), generator=rng) if self.task.model.dropout else 0
        return {
            "x": stacked(sample, self.contrasts),
            "target": sample["x0"],
            WEIGHT: sample[WEIGHT],
            SEED: torch.as_tensor(seed),
        }

    def losses(self, engine: Runner, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Dice and cross-entropy, of each image by its weight."""
        tensors = batch.tensors
        seeds = [tensors[SEED]] if self.task.model.dropout else []
        with engine.autocast():
            logits = engine.call("segmenter", on(engine, tensors["x"]), *seeds)
        target, weight = (tensors[n].to(engine.device) for n in ("target", WEIGHT))
        each = [
            w * self.criterion(one[None], truth[None])
            for w, one, truth in zip(weight, logits.float(), target, strict=True)
        ]
        yield "segmenter", {"dice_ce": torch.stack(each).mean()}

    @torch.inference_mode()
    def predict(self, engine: Runner, scans: list[Visit]) -> Iterator[tuple[Visit, Tensor, Tensor]]:
        """Each scan with its probabilities [1 + S, X, Y, Z] and its targets [X, Y, Z]."""
        net = engine.averaged["segmenter"].eval()
        for scan in scans:
            sample = self.samples.sample(scan, self.contrasts, None)
            logits = net(on(engine, stacked(sample, self.contrasts)[None])).float()
            yield scan, logits.softmax(1)[0].cpu(), sample["x0"].argmax(0)

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
                off = (p[i].sum() - truth.sum()).abs() * self.images.grid_of(scan).voxel_ml
                found.setdefault(f"dice_{name.removesuffix('_ml')}", []).append(dice(mine, truth))
                found.setdefault(f"mae_{name}", []).append(off.item())
        return {k: float(np.mean(v)) for k, v in found.items()}

    def preview(self, engine: Runner) -> np.ndarray:
        """Two held-out scans; below, their structures as found and as they should be."""
        rows = []
        scans = self.images.val or self.images.train
        shape = self.images.grid_of(scans[0]).shape
        scans = [s for s in scans if self.images.grid_of(s).shape == shape][:2]
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
                "model": self.task.model.kept().dump(),
                "structures": self.names,
                "contrasts": self.task.contrasts,
                "labels": self.task.structures,
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
