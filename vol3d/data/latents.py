"""Latents as a dataset with a contract: posterior means and log-variances, and what made them."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from safetensors.numpy import load_file

from vol3d.config import Config
from vol3d.data.images import check_fingerprint
from vol3d.data.splits import check_split
from vol3d.data.visit import Visit
from vol3d.distributed.ranks import launched
from vol3d.errors import ConfigError, DataError
from vol3d.io.reading import inside, read_json, understood

MANIFEST = "latents.json"
LATENT = "latent"
"""What stands for the contrast of a file with latents."""
CACHE_BYTES = 8e9
"""Memory that latents may take, over all processes on this machine, before files are read again."""


class Latents(Config):
    """A folder that `vol3d encode` wrote."""

    are: ClassVar[str] = "latents"
    """What is in it, in a word."""

    kind: Literal["latents"] = "latents"
    path: Path
    """The folder with latents.json."""

    def scans(self) -> list[Visit]:
        """The scans that were encoded."""
        images = self.open()
        return images.train + images.val

    def lies_on(self, scans: list[Visit]) -> str:
        """The grid of the latents in words."""
        return f"latents of {'x'.join(map(str, self.open().manifest['latent_shape']))}"

    def doubts(self, scans: list[Visit]) -> list[str]:
        """None: files and tables were looked at when the scans were encoded."""
        return []

    def open(self) -> "LatentImages":
        """Read the manifest; a ConfigError where these are no finished latents."""
        return LatentImages(self.path)


class LatentImages:
    """The latents of a set of scans, standardised per channel over the whole training set.

    On disk: one safetensors file a visit with `mean` and `logvar` [C, X, Y, Z] of its main contrast, and
    the mean of each other by name, float32, never a noisy draw; `latents.json` with the visits, the
    autoencoder's checksum, the affines, and `shift` and `scale` per channel; the autoencoder's bundle.
    """

    def __init__(self, path: Path) -> None:
        manifest = Path(path) / MANIFEST
        if not manifest.is_file():
            raise ConfigError(f"{path}: holds no {MANIFEST}; write the latents with: vol3d encode")
        self.path = Path(path)
        self.manifest = read_json(manifest)
        with understood(manifest):
            scans = [
                Visit(
                    s["subject"],
                    s["session"],
                    {LATENT: inside(self.path, s["file"], manifest)},
                    dict(s["covariates"]),
                    check_split(s["split"], s["name"]),
                    res=s.get("res"),
                )
                for s in self.manifest["scans"]
            ]
            self.z_channels = int(self.manifest["z_channels"])
            self.shift, self.scale = (
                np.array(self.manifest[k], np.float32).reshape(self.z_channels)
                for k in ("shift", "scale")
            )
            check_fingerprint(self.fingerprint())
            self.contrasts: list[str] = list(self.manifest["images"].get("contrasts", ["T1w"]))
        self.train = [s for s in scans if s.split == "train"]
        self.val = [s for s in scans if s.split == "val"]
        self.cache: dict[str, dict[str, np.ndarray]] = {}
        self.cache_bytes = CACHE_BYTES / launched().local_world

    def read(self, scan: Visit) -> dict[str, np.ndarray]:
        """`mean` and `logvar` [C, X, Y, Z] float32 of the standardised latent of the main contrast.

        Further contrasts that the visit has are there by their names: means, standardised alike.

        Raises:
            DataError: the file is damaged.
        """
        if scan.name not in self.cache:
            shift, scale = (v[:, None, None, None] for v in (self.shift, self.scale))
            try:
                raw = load_file(scan.image)
                logvar = raw.pop("logvar") - 2 * np.log(scale)
                item = {name: (z - shift) / scale for name, z in raw.items()}
                item["logvar"] = logvar
            except Exception as error:
                raise DataError(f"{scan.image}: cannot be read ({error}); encode again") from None
            if sum(a.nbytes for a in item.values()) * (len(self.cache) + 1) > self.cache_bytes:
                return item
            self.cache[scan.name] = item
        return self.cache[scan.name]

    def fingerprint(self) -> dict:
        """What the data are: those of the images, and what the latents are."""
        kept = ("autoencoder", "z_channels", "latent_shape", "shift", "scale")
        return {**self.manifest["images"], "latents": {k: self.manifest[k] for k in kept}}
