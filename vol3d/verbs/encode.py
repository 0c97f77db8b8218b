"""Write the latents of a set of scans: what the diffusion model learns from."""

import json
import logging
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

import vol3d
from vol3d.config import Config
from vol3d.data.bids_writer import write_json, write_text
from vol3d.data.datasets import Source
from vol3d.data.images import Images
from vol3d.data.latents import MANIFEST
from vol3d.data.visit import Visit
from vol3d.distributed.shards import ALL, Shard, share, tell
from vol3d.errors import ConfigError, DataError
from vol3d.io.files import copy_folder, is_free, make_folder, whole
from vol3d.io.lock import at_work
from vol3d.io.progress import track
from vol3d.io.reading import read_json
from vol3d.nn.precision import Precision
from vol3d.tasks.data_report import report_data
from vol3d.trained.autoencoder import TrainedAutoencoder
from vol3d.training.engine import device_of, tell_precision

log = logging.getLogger(__name__)


class Encode(Config):
    """Encode scans: vol3d encode AUTOENCODER OUT data.kind=bids data.path=FOLDER [key=value ...].

    Writes the mean and log-variance of every scan, and the shift and scale of each channel over the
    whole training set. Run it again to go on after a stop.
    """

    positional: ClassVar[tuple[str, ...]] = ("autoencoder", "out")
    autoencoder: Path
    """Bundle or finished run of an autoencoder."""
    out: Path
    """Folder to write."""
    data: Source
    """The scans."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    precision: Precision = "auto"
    """bf16 or fp32; auto takes bf16 where the device multiplies it in hardware, and a folder of latents
    keeps what it began with."""
    shard: Shard = ALL
    """Encode only a share, so that several processes make one dataset: 2/4 is the second of four."""

    def execute(self) -> Path:
        """Encode every scan; a failed one is an error, and nothing is called finished."""
        autoencoder = TrainedAutoencoder(self.autoencoder, device_of(self.device), self.precision)
        images = self.images(autoencoder)
        scans = images.train + images.val
        told = [[s.name, s.split, s.covariates, s.image.stat().st_size] for s in scans]
        with at_work(self.out, [autoencoder.checksum, self.precision, told], self.shard):
            return self.work(autoencoder, images)

    def work(self, autoencoder: TrainedAutoencoder, images: Images) -> Path:
        """Encode what is missing, in a folder that is ours or is made so."""
        self.claim(autoencoder)
        autoencoder.precision = self.kept(autoencoder)
        scans = images.train + images.val
        files = {s.name: self.out / f"{s.name}_latent.safetensors" for s in scans}
        # Scans of one grid side by side, so that each shard has its share of the large ones.
        alike = sorted(scans, key=lambda s: images.grid_of(s).shape)
        for scan in track(share(alike, self.shard), "encode"):
            origin = origin_of(autoencoder, images, scan)
            if not is_whole(files[scan.name], origin):
                encode_scan(autoencoder, images, scan, files[scan.name], origin)
        left = sum(not is_whole(files[s.name], origin_of(autoencoder, images, s)) for s in scans)
        tell(self.shard, left, len(scans), "latents")
        if not left:
            write_manifest(self.out, autoencoder, images, files)
        return self.out

    def images(self, autoencoder: TrainedAutoencoder) -> Images:
        """The scans, of which it is told what they are."""
        report_data(self.data)
        images = Images(self.data, may=None, cache_gb=0)
        for spacing in {images.grid_of(s).spacing for s in images.train + images.val}:
            known = [g.spacing for g in autoencoder.grids]
            if not any(np.allclose(spacing, k, rtol=0.01) for k in known):
                raise DataError(
                    f"{self.data.path}: has voxels of {spacing} mm, the autoencoder learnt from "
                    f"{', '.join(map(str, known))} mm; name a grid, e.g. data.grid=2mm"
                )
        return images

    def claim(self, autoencoder: TrainedAutoencoder) -> None:
        """Make the folder with the autoencoder in it, or check that it is ours."""
        self.check_folder(autoencoder)
        if not self.inside.is_dir():
            make_folder(self.out)
            copy_folder(autoencoder.path, self.inside)
            self.check_folder(autoencoder)  # another process may have been quicker

    def check_folder(self, autoencoder: TrainedAutoencoder) -> None:
        """Check that the folder is free, or holds latents of this autoencoder."""
        if self.inside.is_dir():
            if TrainedAutoencoder(self.inside).checksum != autoencoder.checksum:
                raise ConfigError(
                    f"{self.out}: holds latents of another autoencoder; name another folder"
                )
        elif not is_free(self.out):
            raise ConfigError(
                f"{self.out}: holds something that is not latents; name another folder"
            )

    @property
    def inside(self) -> Path:
        """Where the autoencoder goes."""
        return self.out / "autoencoder"

    def kept(self, autoencoder: TrainedAutoencoder) -> Precision:
        """The precision that this folder was begun with, or the one that was asked for."""
        file = self.out / "encode.json"
        mine = {"autoencoder": autoencoder.checksum, "precision": autoencoder.precision}
        write_json(file, mine, keep=self.precision == "auto")
        precision = read_json(file).get("precision")
        if precision not in ("bf16", "fp32"):
            raise DataError(f"{file}: precision is {precision!r}, bf16 or fp32 is due; encode anew")
        return precision

    def foresee(self) -> None:
        """What a dry run says beside the settings; it refuses what a run would."""
        tell_precision(self.precision, self.device)
        autoencoder = TrainedAutoencoder(self.autoencoder)
        self.check_folder(autoencoder)
        self.images(autoencoder)


def origin_of(autoencoder: TrainedAutoencoder, images: Images, scan: Visit) -> dict[str, str]:
    """What a latent comes from: autoencoder, precision, the image's bytes, where its voxels lie."""
    affine = autoencoder.latent_grid(images.grid_of(scan)).affine
    return {
        "autoencoder": autoencoder.checksum,
        "precision": autoencoder.precision,
        "image": images.digest(scan),
        "affine": json.dumps(affine.tolist()),
    }


def encode_scan(
    autoencoder: TrainedAutoencoder,
    images: Images,
    scan: Visit,
    file: Path,
    origin: dict[str, str],
) -> None:
    """One visit's posterior, and the means of its other contrasts, written whole or not at all."""
    arrays = {}
    for contrast, image in images.read(scan).items():
        posterior = autoencoder.encode(torch.from_numpy(image)[None])
        mean, logvar = (np.ascontiguousarray(t[0].float().cpu().numpy()) for t in posterior)
        if not (np.isfinite(mean).all() and np.isfinite(logvar).all()):
            raise DataError(f"{scan.name}: its latent is not finite; is the autoencoder sound?")
        is_main = contrast == images.main
        arrays |= {"mean": mean, "logvar": logvar} if is_main else {contrast: mean}
    with whole(file) as shard:
        save_file(arrays, shard, metadata=origin)


def is_whole(file: Path, origin: dict[str, str]) -> bool:
    """Whether the latent is there, undamaged, and of this origin."""
    try:
        with safe_open(file, "numpy") as stored:
            return stored.metadata() == origin
    except (OSError, SafetensorError):
        return False


def write_manifest(
    out: Path, autoencoder: TrainedAutoencoder, images: Images, files: dict[str, Path]
) -> None:
    """latents.json, last: with it the dataset is finished."""
    shift, scale = standardise([files[s.name] for s in images.train])
    latent = autoencoder.latent_grid(images.grid)
    told = ("name", "subject", "session", "split", "res", "covariates")
    scans = [
        {**{k: getattr(s, k) for k in told}, "file": files[s.name].name}
        for s in images.train + images.val
    ]
    manifest = {
        "vol3d": vol3d.__version__,
        "autoencoder": autoencoder.checksum,
        "z_channels": autoencoder.z_channels,
        "downsample": autoencoder.downsample,
        "latent_shape": latent.shape,
        "latent_affine": latent.affine.tolist(),
        "shift": shift,
        "scale": scale,
        "images": images.fingerprint(),
        "scans": scans,
    }
    write_text(out / MANIFEST, json.dumps(manifest, indent=1))


def standardise(files: list[Path]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of z per channel over the whole training set.

    z is a draw from the posterior, so its variance is that of the means plus the mean variance.
    """
    total, square, n = 0.0, 0.0, 0
    for file in files:
        with safe_open(file, "numpy") as stored:
            mean = stored.get_tensor("mean").astype(np.float64)
            variance = np.exp(stored.get_tensor("logvar").astype(np.float64))
        total = total + mean.sum((1, 2, 3))
        square = square + (mean**2 + variance).sum((1, 2, 3))
        n += mean[0].size
    shift = total / n
    return shift.tolist(), np.sqrt(square / n - shift**2).tolist()
