"""Import networks that MONAI trained: an autoencoder, or an autoencoder and its diffusion model."""

import logging
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import BeforeValidator, PositiveFloat, PositiveInt

from vol3d.bundle import Bundle, write_bundle
from vol3d.config import Config, without_nulls
from vol3d.data.dataset import GridName
from vol3d.data.datasets import Source
from vol3d.data.images import Images, grid_as_dict
from vol3d.data.imported_covariates import Range, schema_of
from vol3d.diffusion.model import Diffusion, Sampler
from vol3d.diffusion.prediction import Prediction
from vol3d.diffusion.schedules import Schedule
from vol3d.diffusion.solvers.ddim import DDIM
from vol3d.errors import ConfigError, DataError
from vol3d.io.files import make_folder, sha256
from vol3d.io.progress import track
from vol3d.metrics.reconstruction import measure_reconstructions
from vol3d.metrics.verdict import tell_reconstruction
from vol3d.models.monai.architecture import KLHints, UNetHints
from vol3d.models.monai.source import Found, Reader, zoo_of
from vol3d.models.monai.zoo import process_of
from vol3d.tasks.model_card import imported_card
from vol3d.trained.autoencoder import Orientation, TrainedAutoencoder
from vol3d.training.engine import device_of
from vol3d.volume import Grid, mni_grid

log = logging.getLogger(__name__)


class Import(Config):
    """Import weights of MONAI: vol3d import SOURCE OUT [configs/import/brainldm.yaml] [key=value ...].

    SOURCE is a state dict of AutoencoderKL, AutoencoderKlMaisi or DiffusionModelUNet, or a folder of
    MONAI's model zoo. The architecture is read off the weights; the log says what was not (see
    docs/import.md). An autoencoder becomes an autoencoder bundle; a U-Net, with its autoencoder, a
    diffusion bundle.
    """

    positional: ClassVar[tuple[str, ...]] = ("source", "out")
    source: Path
    """File of weights (.pt, .pth, .ckpt, .safetensors), or folder with configs/ and models/."""
    out: Path
    """Folder to write, a bundle; new or empty."""
    autoencoder: Path | None = None
    """Of a U-Net: a file of weights, or a bundle. Not needed where SOURCE is a folder with both."""
    key: str | None = None
    """Which entry of a checkpoint, where several are networks."""
    config: Path | None = None
    """JSON that says how the networks were made; configs/inference.json of SOURCE if not given."""
    kl: KLHints = KLHints()
    """What the autoencoder's weights do not tell."""
    unet: UNetHints = UNetHints()
    """What the U-Net's weights do not tell."""
    grid: GridName = "1mm"
    """The voxels of its images: 160 x 224 x 160 mm in MNI space at this spacing."""
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    """So many voxels instead, around the same centre, in RAS+."""
    orientation: Orientation = "RAS"
    """Where the axes pointed in the images that it was trained on."""
    gain: PositiveFloat = 1.0
    """Its intensities are so many times ours, whose 1 is 1.2 x the 99.5th percentile of the brain."""
    covariates: Annotated[dict[str, Range], BeforeValidator(without_nulls)] = {}
    """What a U-Net is told, in its order: age={low: 44, high: 82, unit: years}, sex={levels: [F, M]}."""
    scale_factor: PositiveFloat | None = None
    """What its latents were multiplied by; as in the file if not given, else 1."""
    schedule: Schedule | None = None
    """Noise in training; as in the JSON if not given, else linear_beta from 1e-4 to 2e-2."""
    prediction: Prediction | None = None
    """What the U-Net's output means; as in the JSON if not given, else eps."""
    sampler: Sampler = Sampler(solver=DDIM(), steps=50)
    """The defaults of `vol3d generate`."""
    data: Source | None = None
    """Scans to measure the autoencoder on; without them its quality stays unknown, and no diffusion
    model can be trained on its latents."""
    device: str = "auto"
    """Where to measure: auto, cpu, cuda or cuda:1."""

    def execute(self) -> Path:
        """Read, prove that names and shapes are those of our network, and write."""
        if self.out.exists() and (self.out.is_file() or any(self.out.iterdir())):
            raise ConfigError(f"{self.out}: is there already; name another folder")
        found = self.find()
        make_folder(self.out.parent)
        with TemporaryDirectory(dir=self.out.parent, prefix=f".{self.out.name}.") as folder:
            autoencoder = Path(folder) / "autoencoder"
            if "autoencoder" in found:
                self.write_autoencoder(found["autoencoder"], autoencoder)
            else:
                autoencoder = self.known_autoencoder()
            if "unet" in found:
                self.write_diffusion(found["unet"], autoencoder)
            else:
                try:
                    os.replace(autoencoder, self.out)  # over an empty folder at most
                except OSError as error:  # of another process, meanwhile
                    raise ConfigError(
                        f"{self.out}: cannot be written ({error.strerror}); name another folder"
                    ) from None
        return self.out

    def known_autoencoder(self) -> Path:
        """The bundle of an autoencoder that there is, which knows what its images are."""
        if said := {"grid", "shape", "orientation", "gain", "data"} & self.model_fields_set:
            log.info("%s: as the autoencoder's bundle has it", ", ".join(sorted(said)))
        return Bundle(self.autoencoder, "autoencoder").path

    # -- reading ----------------------------------------------------------------------------------

    def find(self) -> dict[str, Found]:
        """The networks that there are, by kind."""
        zoo = zoo_of(self.source, self.config)
        reader = Reader(zoo, self.kl, self.unet, self.key)
        found = reader.folder() if self.source.is_dir() else reader.by_kind(self.source)
        if self.autoencoder is None and "autoencoder" not in found:
            raise ConfigError(
                f"{self.source}: is a U-Net of latents; name what makes them: autoencoder=FILE, or a "
                f"bundle of vol3d"
            )
        if self.autoencoder is not None:
            given = {} if self.autoencoder.is_dir() else reader.by_kind(self.autoencoder)
            if "unet" not in found or "unet" in given:
                raise ConfigError(
                    f"autoencoder={self.autoencoder}: goes with a U-Net as SOURCE, and is none itself"
                )
            found = {**given, "unet": found["unet"]}
        for one in found.values():
            one.tell()
        return found

    # -- writing ----------------------------------------------------------------------------------

    def fingerprint(self, found: Found, grid: Grid, gain: float) -> dict[str, Any]:
        """Where the weights come from and what is known of their images."""
        sha = sha256(found.weights.path)
        return {
            "imported": {"from": "MONAI", "files": {found.weights.path.name: sha}},
            "scans": {"train": 0, "val": 0},
            "people": {"train": 0, "val": 0},
            "shape": list(grid.shape),
            "affine": grid.affine.tolist(),
            "spacing_mm": list(grid.spacing),
            "grids": [grid_as_dict(grid)],
            "space_code": 2,  # aligned, to something that the files do not name
            "entities": {},
            "intensity": f"{gain:g} times those of vol3d",
            "sha256": sha,
        }

    def write_autoencoder(self, found: Found, out: Path) -> None:
        """The autoencoder's bundle, measured where there are data."""
        grid = mni_grid(float(self.grid.removesuffix("mm")))
        grid = around(grid, self.shape) if self.shape else grid
        fingerprint = self.fingerprint(found, grid, self.gain)
        parts = {
            "config": {
                "kind": "autoencoder",
                "model": found.net.config.dump(),
                "orientation": self.orientation,
                "gain": self.gain,
            },
            "weights": found.net.state,
        }
        what = f"autoencoder, MONAI's {found.net.what}"
        quality: dict[str, Any] = {}
        for measured in [False, True] if self.data else [False]:
            quality = self.measure(out) if measured else {}
            documents = {"fingerprint": fingerprint, "quality": quality}
            card = imported_card(what, fingerprint, quality)
            write_bundle(out, **parts, documents=documents, card=card)

    def measure(self, bundle: Path) -> dict[str, Any]:
        """Its quality on the held-out scans of `data`."""
        autoencoder = TrainedAutoencoder(bundle, device_of(self.device))
        images = Images(self.data, cache_gb=0)
        known = autoencoder.grid.spacing
        if not np.allclose(images.grid.spacing, known, rtol=0.01):
            raise DataError(
                f"{self.data.path}: has voxels of {images.grid.spacing} mm, and the autoencoder is "
                f"for {known} mm; give the same to both, e.g. grid={self.grid} data.grid={self.grid}"
            )
        if not images.val:
            raise DataError(
                f"{self.data.path}: no scan is held out to measure on (data.val_fraction)"
            )
        scans = (torch.from_numpy(images.image(s))[None] for s in track(images.val, "measure"))
        pairs = ((x, autoencoder.reconstruct(x).cpu()) for x in scans)
        names = [f"held-out scan {i + 1}" for i in range(len(images.val))]
        quality = measure_reconstructions(
            pairs, names, autoencoder.downsample, autoencoder.z_channels
        )
        log.info("in-brain PSNR %.1f dB on %d scans", quality["psnr_brain_db"], quality["n"])
        tell_reconstruction(quality)
        return quality

    def write_diffusion(self, found: Found, inside: Path) -> None:
        """The diffusion model's bundle, around that of its autoencoder."""
        autoencoder = TrainedAutoencoder(inside)
        z, ports = autoencoder.z_channels, found.net.ports
        if ports["out_channels"] != z or ports["in_channels"] < z:
            raise DataError(
                f"{found.weights.path}: is of latents of {ports['out_channels']} channels, the "
                f"autoencoder makes {z}"
            )
        schema = schema_of(self.covariates)
        wide = {"channels": ports["in_channels"] - z}
        wide |= {"tokens": ports["token_dim"] or 0, "vector": ports["vector_dim"] or 0}
        wide = {k: n for k, n in wide.items() if n}
        told = sum(c.width for c in schema.columns)
        if any(n != told for n in wide.values()) or (told and not wide):
            takes = ", ".join(f"{n} as {port}" for port, n in wide.items()) or "none"
            raise ConfigError(
                f"{found.weights.path}: takes numbers beside the latent: {takes}; the covariates "
                f"({', '.join(schema.names) or 'none were given'}) make {told}. Name them in its order, "
                f"with covariates.NAME={{low: 0, high: 1}} (BrainLDM: configs/import/brainldm.yaml)"
            )
        settings = Diffusion.parse(
            {
                "model": found.net.config.dump(),
                **self.process(found),
                "conditions": {"vector": None, **{k: condition(k) for k in wide}},
                "sampler": self.sampler.dump(),
            }
        )
        grid = autoencoder.grid
        fingerprint = self.fingerprint(found, grid, autoencoder.gain)
        fingerprint["latents"] = {
            "autoencoder": autoencoder.checksum,
            "z_channels": z,
            "latent_shape": list(autoencoder.latent_grid(grid).shape),
            "shift": [0.0] * z,
            "scale": [1 / self.factor(found)] * z,
        }
        what = f"diffusion model, MONAI's {found.net.what}"
        write_bundle(
            self.out,
            config={"kind": "diffusion", **settings.dump()},
            weights={f"denoiser.net.{k}": v for k, v in found.net.state.items()},
            documents={
                "fingerprint": fingerprint,
                "covariates": schema.dump(),
                "quality": autoencoder.quality,
            },
            card=imported_card(what, fingerprint, autoencoder.quality, schema),
            inside={"autoencoder": autoencoder.path},
        )

    def process(self, found: Found) -> dict[str, Any]:
        """Schedule and prediction: ours, those of the JSON, MONAI's defaults."""
        said = found.scheduler
        if self.schedule:  # which the JSON may name in a way of its own
            said = {k: v for k, v in said.items() if k not in ("schedule", "beta_schedule")}
        schedule, prediction = process_of(said)
        if not found.scheduler.keys() - {"_target_"} and self.schedule is None:
            log.warning(
                "assumed, as nothing says it: schedule=%s, prediction=%s", schedule, prediction
            )
        clips = said.get("_target_") in ("DDPMScheduler", "DDIMScheduler")  # PNDM never does
        if clips and said.get("clip_sample", True):  # MONAI's default
            log.warning("the JSON clips samples of the latent to [-1, 1]; vol3d does not")
        return {
            "schedule": self.schedule.dump() if self.schedule else schedule,
            "prediction": self.prediction.dump() if self.prediction else prediction,
        }

    def factor(self, found: Found) -> float:
        """What latents were multiplied by."""
        factor = self.scale_factor or found.weights.scale_factor
        if factor is None:
            log.warning("assumed, as nothing says it: scale_factor=1")
        return factor or 1.0


def condition(port: str) -> dict[str, Any]:
    """All numbers through a port as they are."""
    plain = {} if port == "channels" else {"dim": None}
    return {"kind": port, "mask": False, **plain}


def around(grid: Grid, shape: tuple[int, int, int]) -> Grid:
    """A grid of another shape with the same centre, to half a voxel."""
    corner = np.eye(4)
    corner[:3, 3] = [(a - b) / 2 for a, b in zip(grid.shape, shape, strict=True)]
    return Grid(shape, grid.affine @ corner)
