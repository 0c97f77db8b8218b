"""The registrar's training: bring one person's image into another's shape, for any two people."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.data.augment import Augment
from vol3d.data.dataset import Dataset, Text
from vol3d.data.fake import FakeImages
from vol3d.data.images import Images
from vol3d.data.montage import montage
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError, DataError
from vol3d.metrics.folding import folding
from vol3d.metrics.registration import label_overlap, moved_labels, round_trip
from vol3d.models.registrars import RegistrarKind, Symmetric
from vol3d.models.registrars.base import deformation_of, padded
from vol3d.models.registrars.objective import Objective
from vol3d.tasks.autoencode import on
from vol3d.tasks.job import Batch, Runner
from vol3d.tasks.model_card import model_card
from vol3d.trained.registrar import found_by
from vol3d.transforms.deformation import Deformation
from vol3d.transforms.warp import warp

PAIR = ("moving", "fixed")
SHOWN, MEASURED = 2, 20
"""Held-out pairs in a preview, and those that a bundle's quality is of, at most."""


class Register(Config):
    """Train a registrar on scans, two people at a time."""

    learns_from: ClassVar = Dataset
    kind: Literal["register"] = "register"
    model: RegistrarKind = Symmetric()
    """The network."""
    objective: Objective = Objective()
    """What a deformation is to achieve."""
    contrast: Text | None = None
    """The images to register: T1w; null: the main ones."""
    labels: Text | None = None
    """A label map, for the overlap on people held out, and in training if objective.dice is above 0."""
    at_a_time: int = Field(default=16, ge=1)
    """Labels that a pair is trained on, drawn at random of those that both have: each takes memory."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability that left and right are exchanged in both images of a pair."""
    brightness: float = Field(default=0.1, ge=0)
    """Largest relative change of a training image's intensities."""
    augment: Augment = Augment()
    """Further random changes of each training image, by itself."""

    @property
    def label_maps(self) -> list[str]:
        """The label maps that it learns from."""
        return [self.labels] if self.labels else []

    def check(self, scans: list[Visit]) -> list[str]:
        """What is doubtful.

        Raises:
            DataError: there are no two people.
        """
        if len({s.subject for s in scans if s.split == "train"}) < 2:
            raise DataError(
                "a registrar learns from pairs of people, and there is one at most; add some"
            )
        return []

    def job(self, data: Dataset) -> "RegisterJob":
        """Read the scans and build the network."""
        if data.grid == ("own",) or len(data.grid) > 1:
            raise ConfigError(
                f"data.grid={list(data.grid)}: pairs lie on one grid; name one, such as data.grid=2mm"
            )
        needs = [self.contrast] if self.contrast else []
        learns = self.objective.dice > 0 and self.labels
        images = Images(
            data,
            needs=[*needs, self.labels] if learns else needs,
            may=[] if learns or not self.labels else [self.labels],
        )
        return RegisterJob(self, images)

    def fake_job(self, images: FakeImages) -> "RegisterJob":
        """The job on scans that nobody took."""
        return RegisterJob(self, images)


class RegisterJob:
    """A registrar in training; see `vol3d.tasks.job.Job`."""

    title = "registrar"
    whole_weights = None

    def __init__(self, task: Register, images: Images | FakeImages) -> None:
        self.task, self.images, self.scans = task, images, images.train
        self.nets: dict[str, nn.Module] = {"registrar": task.model.build(in_channels=1)}
        self.optims: dict[str, Any] = {}
        self.averaged = ["registrar"]

    def draw(self, scan: Visit, rng: torch.Generator) -> dict[str, Tensor]:
        """A scan and that of another person, each augmented by itself, flipped or not together."""
        others = [s for s in self.scans if s.subject != scan.subject]
        other = others[int(torch.randint(len(others), (), generator=rng))]
        read = [self.augmented(one, rng) for one in (scan, other)]
        drawn = dict(zip(PAIR, (image for image, _ in read), strict=True))
        if self.task.objective.dice:
            maps = self.chosen([labels for _, labels in read], rng)
            drawn |= {f"{name}_labels": m for name, m in zip(PAIR, maps, strict=True)}
        if torch.rand((), generator=rng) < self.task.flip:
            drawn = {name: t.flip(1) for name, t in drawn.items()}  # X is left to right
        return drawn

    def augmented(self, scan: Visit, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """An image [1, X, Y, Z] and its labels, changed at random."""
        there = {n: torch.from_numpy(a) for n, a in self.images.read(scan).items()}
        maps = {n: there[n] for n in self.task.label_maps if n in there}
        image = there[self.images.main]
        spacing = self.images.grid_of(scan).spacing
        pictures, maps = self.task.augment.augmented({"x": image}, maps, spacing, rng)
        change = (2 * torch.rand((), generator=rng) - 1) * self.task.brightness
        return (pictures["x"] * (1 + change)).clamp(0, 1), maps.get(self.task.labels)

    def chosen(self, maps: list[Tensor], rng: torch.Generator) -> list[Tensor]:
        """Of two label maps, as many labels as are trained on, each as shares [K, X, Y, Z]."""
        there = [set(m.unique().tolist()) for m in maps]
        both = torch.tensor(sorted(there[0] & there[1] - {0}), dtype=torch.int64)
        drawn = both[torch.randperm(len(both), generator=rng)][: self.task.at_a_time].tolist()
        drawn += [-1] * (self.task.at_a_time - len(drawn))  # of which neither has any
        return [torch.cat([m == v for v in drawn]).float() for m in maps]

    def losses(self, engine: Runner, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """The objective, of the deformation that the network finds."""
        tensors = {name: on(engine, x) for name, x in batch.tensors.items()}
        moving, fixed = (tensors[name] for name in PAIR)
        multiple = self.task.model.multiple
        with engine.autocast():
            seen = (padded(x, multiple) for x in (moving, fixed))
            velocities = engine.call("registrar", *seen)
        found = deformation_of(velocities, fixed.shape[2:], multiple)
        labels = (
            tuple(tensors[f"{name}_labels"] for name in PAIR) if self.task.objective.dice else None
        )
        yield "registrar", self.task.objective.terms(found, moving, fixed, labels)

    def pairs(self) -> list[tuple[Visit, Visit]]:
        """Held-out people in order, each with the next; of training people where none are held out."""
        scans = self.images.val if len({s.subject for s in self.images.val}) > 1 else self.scans
        pairs = zip(scans, [*scans[1:], scans[0]], strict=True)
        return [(m, f) for m, f in pairs if m.subject != f.subject]

    @torch.inference_mode()
    def registered(
        self, engine: Runner, pairs: list[tuple[Visit, Visit]]
    ) -> Iterator[tuple[Visit, Visit, Deformation]]:
        """Each pair with what the averaged network finds."""
        net = engine.averaged["registrar"].eval()
        for moving, fixed in pairs:
            images = (torch.from_numpy(self.images.image(s))[None] for s in (moving, fixed))
            seen = (x.to(engine.device) for x in images)
            yield moving, fixed, found_by(net, self.task.model.multiple, *seen)

    def validate(self, engine: Runner) -> dict[str, float]:
        """Measures on up to eight held-out pairs."""
        return self.measured(engine, self.pairs()[:8])

    def measured(self, engine: Runner, pairs: list[tuple[Visit, Visit]]) -> dict[str, float]:
        """Means over pairs: similarity before and after, overlap of labels, folding, the round trip."""
        rows = [self.measure(*one) for one in self.registered(engine, pairs)]
        return {k: float(np.mean([r[k] for r in rows if k in r])) for r in rows[:1] for k in r}

    def measure(self, moving: Visit, fixed: Visit, found: Deformation) -> dict[str, float]:
        """Of one pair."""
        u, back = found.displacement(), found.inverse()
        m, f = (torch.from_numpy(self.images.image(s))[None].to(u) for s in (moving, fixed))
        unlike, grid = self.task.objective.unlike, self.images.grid_of(fixed)
        row = {
            "unlike_before": float(unlike(m, f)),
            "unlike": float(unlike(warp(m, u), f)),
            **round_trip(u.cpu(), back.cpu(), f.cpu()),
        }
        mm = u[0].cpu().numpy() * np.array(grid.spacing, np.float32)[:, None, None, None]
        row["ndv_percent"] = folding(mm, grid, f[0, 0].cpu().numpy())["ndv_percent"]
        name = self.task.labels
        if name and name in moving.labels and name in fixed.labels:
            theirs, truth = (self.images.labels(s, name) for s in (moving, fixed))
            warped = moved_labels(torch.from_numpy(theirs)[None], u.cpu())[0].numpy()
            row["dice_before"] = float(np.mean([*label_overlap(theirs, truth).values()]))
            row["dice"] = float(np.mean([*label_overlap(warped, truth).values()]))
        return row

    def preview(self, engine: Runner) -> np.ndarray:
        """Two pairs: the moving image, the same moved, and the fixed image."""
        rows = []
        for moving, fixed, found in self.registered(engine, self.pairs()[:SHOWN]):
            m, f = (torch.from_numpy(self.images.image(s))[None] for s in (moving, fixed))
            warped = warp(m, found.displacement().cpu())
            rows.append(montage([x[0, 0].numpy() for x in (m, warped, f)]))
        return np.vstack(rows)

    def bundle(self, engine: Runner) -> dict[str, Any]:
        """The averaged registrar with its quality on pairs of held-out people."""
        pairs = self.pairs()[:MEASURED] if len(self.images.val) > 1 else []
        quality = {"n": len(pairs), **self.measured(engine, pairs)} if pairs else {}
        fingerprint = self.images.fingerprint()
        return {
            "config": {
                "kind": "registrar",
                "model": self.task.model.dump(),
                "objective": self.task.objective.dump(),
                "contrasts": [self.images.main],
            },
            "weights": engine.averaged["registrar"].state_dict(),
            "documents": {"fingerprint": fingerprint, "quality": quality},
            "card": model_card(
                "registrar",
                "brings one brain into another's shape",
                fingerprint,
                quality,
            ),
        }
