"""The autoencoder's training: reconstruct the scan, keep the latent plain, fool a discriminator.

Rombach et al. 2022 (arXiv:2112.10752), section 3.1 and appendix G; the adversarial part is that of
VQ-GAN (Esser et al. 2021, arXiv:2012.09841), section 3.1.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from vol3d.config import Config, without_nulls
from vol3d.data.augment import Augment
from vol3d.data.covariate_types import Wanted
from vol3d.data.covariates import refuse_unknown
from vol3d.data.dataset import Dataset
from vol3d.data.fake import FakeImages
from vol3d.data.images import Images
from vol3d.data.montage import montage
from vol3d.data.patches import Patches, whole
from vol3d.data.rng import randn
from vol3d.data.summary import few_people
from vol3d.data.visit import Visit
from vol3d.errors import ConfigError, Vol3dError
from vol3d.metrics.reconstruction import measure_reconstructions
from vol3d.metrics.verdict import tell_reconstruction
from vol3d.models.autoencoders import Autoencoder
from vol3d.models.discriminators import Discriminator, Patch
from vol3d.nn.adversarial import AdversarialLoss, Balance, feature_matching, fool, judge
from vol3d.nn.optim import Optim
from vol3d.nn.perceptual import Perceptual, PerceptualLoss
from vol3d.tasks.job import Batch, Runner
from vol3d.tasks.model_card import model_card


class Adversarial(Config):
    """The discriminator and when it has a say."""

    weight: NonNegativeFloat = 0.0
    """Of the generator's adversarial loss; 0 trains without a discriminator."""
    feature_weight: NonNegativeFloat = 0.0
    """Of the distance between the discriminator's features of a scan and of its reconstruction."""
    start_nimg: NonNegativeInt = 0
    """Images before the discriminator begins to learn."""
    warmup_nimg: NonNegativeInt = 2000
    """Images over which both weights then rise from 0."""
    adaptive: bool = True
    """Balance the adversarial gradient against the reconstruction's, at the last layer (eq. 7)."""
    loss: AdversarialLoss = "hinge"
    """How the discriminator's output becomes a loss."""
    model: Discriminator = Patch()
    """The discriminator network."""
    optim: Optim = Optim(lr=5e-4, betas=(0.5, 0.9))
    """Its optimiser."""

    @model_validator(mode="after")
    def check_weights(self) -> "Adversarial":
        """Features are those of a discriminator that learns."""
        if self.feature_weight and not self.weight:
            raise ValueError(
                f"feature_weight={self.feature_weight} needs a discriminator; set weight above 0"
            )
        return self

    def warmth(self, nimg: int) -> float:
        """The share of its weights that counts at image `nimg`."""
        return min(1.0, (nimg - self.start_nimg) / max(self.warmup_nimg, 1))


class Autoencode(Config):
    """Train an autoencoder on scans."""

    learns_from: ClassVar = Dataset
    kind: Literal["autoencode"] = "autoencode"
    model: Autoencoder
    """The network."""
    patch: Patches = None
    """Train on random patches of so many voxels; null trains on whole volumes."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability that left and right are exchanged in a training image."""
    augment: Augment = Augment()
    """Further random changes of a training image; all are off unless they are set."""
    l1_weight: NonNegativeFloat = 1.0
    """Of the mean absolute error."""
    l2_weight: NonNegativeFloat = 0.0
    """Of the mean squared error."""
    perceptual_weight: NonNegativeFloat = 0.1
    """Of the perceptual loss; 0 leaves it out."""
    perceptual: Perceptual = Perceptual()
    """Its feature network."""
    adversarial: Adversarial = Adversarial()
    """The discriminator."""
    covariates: Annotated[dict[str, Wanted], BeforeValidator(without_nulls)] = {}
    """What the diffusion model is to be told; nothing is learnt from it here, but what lacks is told."""

    @model_validator(mode="after")
    def check_patch(self) -> "Autoencode":
        """Its losses are of a batch, in which no patch can count less than another."""
        if self.patch and (self.patch.centre or self.patch.foreground):
            raise ValueError(
                "patch: an autoencoder's patches lie anywhere alike; give the size alone"
            )
        return self

    @property
    def label_maps(self) -> list[str]:
        """The label maps that it learns from."""
        return []

    def check(self, scans: list[Visit]) -> list[str]:
        """What a later stage would lack, which may still be added before `vol3d encode`."""
        found = few_people(scans)
        try:
            refuse_unknown(self.covariates, scans)
        except Vol3dError as error:
            found.append(f"the diffusion model will be refused, after all this: {error}")
        return found

    def job(self, data: Dataset) -> "AutoencodeJob":
        """Read the scans and build the networks."""
        perceptual = self.perceptual.build() if self.perceptual_weight else None
        return AutoencodeJob(self, Images(data, may=None, each=True), perceptual)

    def fake_job(self, images: FakeImages) -> "AutoencodeJob":
        """The job on scans that nobody took, with nothing read from the disk."""
        perceptual = self.perceptual.blank() if self.perceptual_weight else None
        return AutoencodeJob(self, images, perceptual)


class AutoencodeJob:
    """An autoencoder in training; see `vol3d.tasks.job.Job`."""

    title = "autoencoder"
    whole_weights = (
        "an autoencoder's layers work slab by slab on one another's weights, which must be whole"
    )
    uneven = None

    def __init__(
        self, task: Autoencode, images: Images | FakeImages, perceptual: PerceptualLoss | None
    ) -> None:
        self.task, self.images, self.scans = task, images, images.train
        self.nets: dict[str, nn.Module] = {"autoencoder": task.model.build(in_channels=1)}
        self.optims: dict[str, Any] = {}
        if task.adversarial.weight:
            self.check_size()
            discriminator = task.adversarial.model.build(in_channels=1)
            if task.adversarial.adaptive:
                discriminator.balance = Balance(self.nets["autoencoder"].last_layer.weight)
            self.nets["discriminator"] = discriminator
            self.optims["discriminator"] = task.adversarial.optim
        self.averaged = ["autoencoder"]
        self.perceptual = perceptual

    def check_size(self) -> None:
        """The discriminator has a verdict on volumes, or patches, of this size."""
        shapes = [self.images.grid_of(scan).shape for scan in self.scans]
        edge = min(
            min(shape) for shape in [*shapes, *([self.task.patch.size] if self.task.patch else [])]
        )
        smallest = self.task.adversarial.model.smallest
        if edge < smallest:
            raise ConfigError(
                f"task.adversarial.model: needs volumes of {smallest} voxels along every axis, these "
                f"have {edge}; lower its layers or scales, or enlarge task.patch"
            )

    def draw(self, scan: Visit, rng: torch.Generator) -> dict[str, Tensor]:
        """The scan, augmented, flipped or not, or a random patch of it."""
        x = torch.from_numpy(self.images.image(scan))
        spacing = self.images.grid_of(scan).spacing
        x = self.task.augment.augmented({"x": x}, {}, spacing, rng)[0]["x"]
        if torch.rand((), generator=rng) < self.task.flip:
            x = x.flip(1)  # X is left to right
        patch, shape = self.task.patch, x.shape[1:]
        place = patch.place(shape, x[0] > 0, rng) if patch else whole(shape)
        return {"x": place.of(x)}

    def losses(self, engine: Runner, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """The autoencoder's losses; once the discriminator has begun, its own from the same pass."""
        task, nets = self.task, engine.nets
        x = on(engine, batch.tensors["x"])
        noise = on(engine, randn(task.model.latent_shape(x.shape[2:]), batch.rngs))
        with engine.autocast():
            passed = engine.call("autoencoder", x, noise)
        y = passed.x
        engine.tell(passed.measures)
        losses = {"l1": task.l1_weight * functional.l1_loss(y.float(), x)}
        if task.l2_weight:
            losses["l2"] = task.l2_weight * functional.mse_loss(y.float(), x)
        if self.perceptual is not None:
            with engine.autocast():
                losses["perceptual"] = task.perceptual_weight * self.perceptual.to(x.device)(y, x)
        reconstruction = torch.stack(list(losses.values())).sum()
        losses |= passed.penalties

        fooling = "discriminator" in nets and batch.nimg >= task.adversarial.start_nimg
        if fooling:
            losses |= self.fooling(engine, x, y, reconstruction, batch)
        yield "autoencoder", losses
        if fooling:
            with engine.autocast():
                real, fake = (engine.call("discriminator", seen) for seen in (x, y.detach()))
            yield "discriminator", {"discriminator": judge(real, fake, task.adversarial.loss)}

    def fooling(
        self, engine: Runner, x: Tensor, y: Tensor, reconstruction: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        """What the discriminator has to say to the autoencoder about y, the reconstruction of x."""
        adversarial, nets = self.task.adversarial, engine.nets
        discriminator = nets["discriminator"].requires_grad_(False)  # frozen in this pass
        with engine.autocast():
            fake = discriminator(y)
            real = discriminator(x) if adversarial.feature_weight else None
        discriminator.requires_grad_(True)
        fooled, warmth = fool(fake, adversarial.loss), adversarial.warmth(batch.nimg)
        weight = warmth * adversarial.weight
        if adversarial.adaptive:
            weight = weight * discriminator.balance.weight
            last = nets["autoencoder"].last_layer.weight
            discriminator.balance.add_up(reconstruction, fooled, last, batch.share)
        losses = {"adversarial": weight * fooled}
        if real is not None:
            losses["features"] = warmth * adversarial.feature_weight * feature_matching(real, fake)
        return losses

    def preview(self, engine: Runner) -> np.ndarray:
        """Four held-out scans above their reconstructions."""
        scans = (self.images.val or self.images.train)[:4]
        pairs = [(x[0, 0], y[0, 0]) for x, y in self.reconstructions(engine, scans)]
        return np.vstack([montage([p[i].numpy() for p in pairs]) for i in (0, 1)])

    def validate(self, engine: Runner) -> dict[str, float]:
        """In-brain PSNR and L1 of up to eight held-out scans."""
        errors = [(x - y)[x > 0] for x, y in self.reconstructions(engine, self.images.val[:8])]
        if not errors:
            return {}
        psnr = [-10 * torch.log10(e.square().mean()).item() for e in errors]
        return {
            "psnr_brain_db": float(np.mean(psnr)),
            "l1_brain": float(np.mean([e.abs().mean().item() for e in errors])),
        }

    @torch.inference_mode()
    def reconstructions(
        self, engine: Runner, scans: list[Visit]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Each scan [1, 1, X, Y, Z] and its reconstruction by the averaged weights."""
        net = engine.averaged["autoencoder"].eval()
        for scan in scans:
            x = torch.from_numpy(self.images.image(scan))[None]
            with engine.autocast():
                z = net.encode(on(engine, x)).mean
                y = net.decode(z, tuple(x.shape[2:]))
            yield x, y.float().clamp(0, 1).cpu()

    def bundle(self, engine: Runner) -> dict[str, Any]:
        """The averaged autoencoder with its quality on all held-out people."""
        net = engine.averaged["autoencoder"]
        names = [f"held-out scan {i + 1}" for i in range(len(self.images.val))]  # nobody by name
        quality = measure_reconstructions(
            self.reconstructions(engine, self.images.val), names, net.downsample, net.z_channels
        )
        tell_reconstruction(quality)
        fingerprint = self.images.fingerprint()
        return {
            "config": {"kind": "autoencoder", "model": self.task.model.dump()},
            "weights": net.state_dict(),
            "documents": {"fingerprint": fingerprint, "quality": quality},
            "card": model_card(
                "autoencoder",
                "compresses brains into a small latent and back",
                fingerprint,
                quality,
            ),
        }


def on(engine: Runner, x: Tensor) -> Tensor:
    """To the engine's device, in the layout where 3-D convolutions are fastest."""
    return x.to(engine.device, memory_format=torch.channels_last_3d, non_blocking=True)
