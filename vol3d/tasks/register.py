"""The registrar's training: bring one person's image into another's shape, for any two people."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d

from vol3d.data.augment import Augment
from vol3d.data.dataset import Dataset, Text
from vol3d.data.fake import FakeImages
from vol3d.data.images import Images
from vol3d.data.montage import montage
from vol3d.data.network_images import as_seen
from vol3d.data.synthetic_contrast import made_up
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError, DataError
from vol3d.io.reading import naming
from vol3d.metrics.folding import folding
from vol3d.metrics.registration import label_overlap, moved_labels, round_trip
from vol3d.models.registrars.base import deformation_of, padded
from vol3d.tasks.autoencode import on
from vol3d.tasks.job import Batch, Runner
from vol3d.tasks.model_card import model_card
from vol3d.trained.registrar_network import RegistrarSettings, found_by
from vol3d.transforms.deformation import Deformation
from vol3d.transforms.warp import warp
from vol3d.volume import Volume

PAIR = ("moving", "fixed")
SHOWN, MEASURED = 2, 20
"""Held-out pairs in a preview, and those that a bundle's quality is of, at most."""


class Register(RegistrarSettings):
    """Train a registrar on scans, two people at a time."""

    learns_from: ClassVar = Dataset
    kind: Literal["register"] = "register"
    contrast: Text | None = None
    """The images to register: T1w; null: the main ones."""
    to: Path | None = None
    """An image that everybody is registered to, such as a template; null: two people at a time."""
    labels: Text | None = None
    """A label map, for the overlap on people held out, and in training where objective.dice or synthetic
    is above 0."""
    synthetic: float = Field(default=0.0, ge=0, le=1)
    """Probability with which the network sees an image of a contrast made up from the label map, while
    the objective is that of the scans: then it registers contrasts that it never saw (SynthMorph)."""
    coarse: float = Field(default=0.0, ge=0, le=1)
    """Probability that a pair is compared on images of half the voxels, after all velocities but the
    finest: a training step takes a third of the time. The network sees whole images in any case."""
    at_a_time: int = Field(default=16, ge=1)
    """Labels that a pair is trained on, drawn at random of those that both have: each takes memory."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability that left and right are exchanged in both images of a pair."""
    brightness: float = Field(default=0.1, ge=0)
    """Largest relative change of a training image's intensities."""
    augment: Augment = Augment()
    """Further random changes of each training image, by itself."""

    @model_validator(mode="after")
    def check_labels(self) -> "Register":
        """Label maps are there for what needs them."""
        if self.learns_labels and not self.labels:
            raise ValueError(
                f"objective.dice={self.objective.dice:g}, synthetic={self.synthetic:g}: need a label "
                f"map; name it (labels=labels)"
            )
        if self.objective.dice and self.to:
            raise ValueError("objective.dice: what is named by `to` has no labels; leave one out")
        return self

    @property
    def label_maps(self) -> list[str]:
        """The label maps that it learns from."""
        return [self.labels] if self.labels else []

    def check(self, scans: list[Visit]) -> list[str]:
        """What is doubtful.

        Raises:
            DataError: there are no two people.
        """
        if not self.to and len({s.subject for s in scans if s.split == "train"}) < 2:
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
        needs += [self.labels] if self.learns_labels else []
        images = Images(data, needs=needs, may=self.label_maps)
        return RegisterJob(self, images)

    def fake_job(self, images: FakeImages) -> "RegisterJob":
        """The job on scans that nobody took, with no weights of another model."""
        is_coarse = float(self.coarse == 1)  # of a mixture, whole pairs are what takes most
        changes = {**dict(self.kept()), "to": None, "coarse": is_coarse}
        job = RegisterJob(self.model_copy(update=changes), images)
        job.uneven = self.uneven
        return job

    @property
    def uneven(self) -> str | None:
        """See `vol3d.tasks.job.Job`."""
        return f"task.coarse={self.coarse:g}" if 0 < self.coarse < 1 else None

    @property
    def learns_labels(self) -> bool:
        """Whether it trains with label maps, beside measuring with them."""
        return self.objective.dice > 0 or self.synthetic > 0


def halved(x: Tensor) -> Tensor:
    """[C, X, Y, Z] on half the voxels along each axis, after zeros at the high ends of odd ones."""
    return avg_pool3d(padded(x[None], 2), 2)[0]


def compared(
    velocities: Sequence[Tensor], shape: Sequence[int], multiple: int, is_coarse: bool
) -> Deformation:
    """The deformation in which a pair is compared.

    Args:
        velocities: what the network found in whole images, the outermost first.
        shape: of the images that are compared, [X, Y, Z].
        multiple: that of the network, of whole images.
        is_coarse: they are `halved`; the finest velocity would show on whole ones only and is left out.
    """
    if not is_coarse:
        return deformation_of(velocities, shape, multiple)
    return deformation_of(velocities[:-1] or velocities, shape, multiple // 2)


class RegisterJob:
    """A registrar in training; see `vol3d.tasks.job.Job`."""

    title = "registrar"
    whole_weights = None

    def __init__(self, task: Register, images: Images | FakeImages) -> None:
        self.task, self.images, self.scans = task, images, images.train
        self.nets: dict[str, nn.Module] = {"registrar": task.build()}
        self.optims: dict[str, Any] = {}
        self.averaged = ["registrar"]
        self.uneven = task.uneven
        self.template = None  # [1, X, Y, Z]
        if task.to:
            template = Volume.read(task.to)
            with naming(task.to):
                seen = as_seen(template, images.grid)
            if not seen.data.any():
                raise DataError(
                    f"{task.to}: has nothing where the scans are, on a grid of {images.grid}; align it "
                    f"with them (both in MNI space, say)"
                )
            self.template = torch.from_numpy(seen.data)[None]

    def draw(self, scan: Visit, rng: torch.Generator) -> dict[str, Tensor]:
        """A scan and another person's, or the template, each augmented by itself, flipped together.

        `moving` and `fixed` are compared, `moving_seen` and `fixed_seen` are what the network sees.
        """
        read = [self.augmented(scan, rng)]
        if self.template is None:
            others = [s for s in self.scans if s.subject != scan.subject]
            other = others[int(torch.randint(len(others), (), generator=rng))]
            read.append(self.augmented(other, rng))
        else:
            read.append((self.template, None))
        drawn = {}
        for name, (image, labels) in zip(PAIR, read, strict=True):
            seen = self.shaded(image, rng)
            if labels is not None and torch.rand((), generator=rng) < self.task.synthetic:
                seen = made_up(labels, image, rng)
            drawn |= {name: image, f"{name}_seen": seen}
        if self.task.objective.dice:
            maps = self.chosen([labels for _, labels in read], rng)
            drawn |= {f"{name}_labels": m for name, m in zip(PAIR, maps, strict=True)}
        if torch.rand((), generator=rng) < self.task.flip and self.template is None:
            drawn = {name: t.flip(1) for name, t in drawn.items()}  # X is left to right
        if torch.rand((), generator=rng) < self.task.coarse:
            drawn |= {name: halved(t) for name, t in drawn.items() if not name.endswith("_seen")}
        if self.task.guidance:
            drawn |= self.noise(drawn["moving_seen"].shape[1:], rng)
        return drawn

    def augmented(self, scan: Visit, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """An image [1, X, Y, Z] and its labels, changed at random."""
        there = {n: torch.from_numpy(a) for n, a in self.images.read(scan).items()}
        maps = {n: there[n] for n in self.task.label_maps if n in there}
        pictures = {"x": there[self.images.main]}
        spacing = self.images.grid_of(scan).spacing
        pictures, maps = self.task.augment.augmented(pictures, maps, spacing, rng)
        return pictures["x"], maps.get(self.task.labels)

    def shaded(self, image: Tensor, rng: torch.Generator) -> Tensor:
        """A little brighter or darker."""
        change = (2 * torch.rand((), generator=rng) - 1) * self.task.brightness
        return (image * (1 + change)).clamp(0, 1)

    def noise(self, shape: Sequence[int], rng: torch.Generator) -> dict[str, Tensor]:
        """What a denoiser that guides is trained with; nothing where it is only to be compared with."""
        guidance = self.task.guidance
        multiple = self.task.model.multiple
        box = [n + -n % multiple for n in shape]
        noise, sigma = torch.randn((2, *box), generator=rng), guidance.schedule.draw_sigma(rng)
        if guidance.weight == 0:
            noise, sigma = torch.zeros_like(noise), torch.zeros_like(sigma)
        return {"noise": noise, "sigma": sigma}

    def chosen(self, maps: list[Tensor], rng: torch.Generator) -> list[Tensor]:
        """Of two label maps, as many labels as are trained on, each as shares [K, X, Y, Z]."""
        there = [set(m.unique().tolist()) for m in maps]
        both = torch.tensor(sorted(there[0] & there[1] - {0}), dtype=torch.int64)
        drawn = both[torch.randperm(len(both), generator=rng)][: self.task.at_a_time].tolist()
        drawn += [-1] * (self.task.at_a_time - len(drawn))  # of which neither has any
        return [torch.cat([m == v for v in drawn]).float() for m in maps]

    def losses(self, engine: Runner, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """The objective, of the deformation that the network finds; and the loss of what guides it."""
        task, tensors = self.task, batch.tensors
        sigma = [tensors.pop("sigma").to(engine.device)] if task.guidance else []
        tensors = {name: on(engine, x) for name, x in tensors.items()}
        moving, fixed = (tensors[name] for name in PAIR)
        with engine.autocast():
            seen = (padded(tensors[f"{name}_seen"], task.model.multiple) for name in PAIR)
            noise = [tensors["noise"], *sigma] if task.guidance else []
            said = engine.call("registrar", *seen, *noise)
        velocities, denoising, weights = said if task.guidance else (said, None, None)
        is_coarse = fixed.shape != tensors["fixed_seen"].shape
        found = compared(velocities, fixed.shape[2:], task.model.multiple, is_coarse)
        labels = tuple(tensors[f"{name}_labels"] for name in PAIR) if task.objective.dice else None
        if weights is not None:
            weights = (avg_pool3d(weights, 2) if is_coarse else weights).float()
            X, Y, Z = fixed.shape[2:]
            weights = weights[:, :, :X, :Y, :Z].chunk(2)
        terms = task.objective.terms(found, moving, fixed, labels, weights)
        if task.guidance and task.guidance.weight:
            terms["denoising"] = task.guidance.weight * denoising
        yield "registrar", terms

    def pairs(self) -> list[tuple[Visit, Visit | None]]:
        """Held-out people in order, each with the next, or with the template (None).

        Of training people where too few are held out.
        """
        several = len({s.subject for s in self.images.val}) > 1
        scans = self.images.val if several or (self.task.to and self.images.val) else self.scans
        if self.task.to:
            return [(s, None) for s in scans]
        pairs = zip(scans, [*scans[1:], scans[0]], strict=True)
        return [(m, f) for m, f in pairs if m.subject != f.subject]

    def image(self, scan: Visit | None) -> Tensor:
        """[1, 1, X, Y, Z]; the template if None."""
        x = self.template if scan is None else torch.from_numpy(self.images.image(scan))
        return x[None]

    @torch.inference_mode()
    def registered(
        self, engine: Runner, pairs: list[tuple[Visit, Visit | None]]
    ) -> Iterator[tuple[Visit, Visit | None, Deformation]]:
        """Each pair with what the averaged network finds."""
        net = engine.averaged["registrar"].eval()
        for moving, fixed in pairs:
            seen = (self.image(s).to(engine.device) for s in (moving, fixed))
            yield moving, fixed, found_by(net, self.task.model.multiple, *seen)

    def validate(self, engine: Runner) -> dict[str, float]:
        """Measures on up to eight held-out pairs."""
        return self.measured(engine, self.pairs()[:8])

    def measured(self, engine: Runner, pairs: list[tuple[Visit, Visit | None]]) -> dict[str, float]:
        """Means over pairs: similarity before and after, overlap of labels, folding, the round trip."""
        rows = [self.measure(*one) for one in self.registered(engine, pairs)]
        return {k: float(np.mean([r[k] for r in rows if k in r])) for r in rows[:1] for k in r}

    def measure(self, moving: Visit, fixed: Visit | None, found: Deformation) -> dict[str, float]:
        """Of one pair."""
        u, back = found.displacement(), found.inverse()
        m, f = (self.image(s).to(u) for s in (moving, fixed))
        unlike, grid = self.task.objective.unlike, self.images.grid
        row = {
            "unlike_before": float(unlike(m, f)),
            "unlike": float(unlike(warp(m, u), f)),
            **round_trip(u.cpu(), back.cpu(), f.cpu()),
        }
        mm = u[0].cpu().numpy() * np.array(grid.spacing, np.float32)[:, None, None, None]
        row["ndv_percent"] = folding(mm, grid, f[0, 0].cpu().numpy())["ndv_percent"]
        name = self.task.labels
        if name and fixed and name in moving.labels and name in fixed.labels:
            theirs, truth = (self.images.labels(s, name) for s in (moving, fixed))
            warped = moved_labels(torch.from_numpy(theirs)[None], u.cpu())[0].numpy()
            row["dice_before"] = float(np.mean([*label_overlap(theirs, truth).values()]))
            row["dice"] = float(np.mean([*label_overlap(warped, truth).values()]))
        return row

    def preview(self, engine: Runner) -> np.ndarray:
        """Two pairs: the moving image, the same moved, and the fixed image."""
        rows = []
        for moving, fixed, found in self.registered(engine, self.pairs()[:SHOWN]):
            m, f = (self.image(s) for s in (moving, fixed))
            warped = warp(m, found.displacement().cpu())
            rows.append(montage([x[0, 0].numpy() for x in (m, warped, f)]))
        return np.vstack(rows)

    def bundle(self, engine: Runner) -> dict[str, Any]:
        """The averaged registrar with its quality on pairs of held-out people."""
        pairs = self.pairs()[:MEASURED] if len(self.images.val) > 1 else []
        quality = {"n": len(pairs), **self.measured(engine, pairs)} if pairs else {}
        fingerprint, kept = self.images.fingerprint(), self.task.kept().dump()
        return {
            "config": {
                "kind": "registrar",
                **{name: kept[name] for name in RegistrarSettings.model_fields},
                "contrasts": [] if self.task.synthetic else [self.images.main],
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
