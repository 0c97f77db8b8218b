"""Restore an image from the template's grid to the raw scan's, through the transform that was kept."""

import re
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vol3d.config import Config
from vol3d.data.bids_writer import holds_labels
from vol3d.data.preparation.alignment import move
from vol3d.data.preparation.transforms import read_native_grid
from vol3d.errors import ConfigError, DataError
from vol3d.io.files import check_new_image, make_folder
from vol3d.io.header import Form
from vol3d.transforms.transform_file import read_transform
from vol3d.volume import Volume


class Restore(Config):
    """Take an image back to native space: vol3d restore IMAGE OUT [prepared=FOLDER].

    IMAGE lies on the grid of `vol3d prepare`, or on any grid in the template's space: a brain, a
    mask, a label map. OUT lies on the grid of the raw scan, voxel by voxel.
    """

    positional: ClassVar[tuple[str, ...]] = ("image", "out")
    image: Path
    """NIfTI image in the template's space, named in BIDS's words: sub-01_..._dseg.nii.gz."""
    out: Path
    """NIfTI file to write."""
    prepared: Path | None = None
    """Folder of `vol3d prepare` with the person's transform; the one that IMAGE is in if not given."""
    xfm: Path | None = None
    """The transform itself, where the names do not tell whose it is."""
    native: Path | None = None
    """The raw scan; if not given, its grid is read from the JSON beside the transform."""
    interpolation: Literal["auto", "linear", "nearest"] = "auto"
    """auto: nearest neighbour for files named mask or dseg, linear for all others."""
    form: Form | None = None
    """sform or qform: what holds where a header says two things about left and right."""
    overwrite: bool = False
    """Replace OUT if it is there."""

    def execute(self) -> Path:
        """Read, move, write."""
        check_new_image(self.out, self.overwrite)
        volume = Volume.read(self.image, self.form)
        path = self.xfm or self.find_transform()
        transform = read_transform(path)
        native = Volume.read(self.native, self.form).grid if self.native else read_native_grid(path)
        nearest = self.interpolation == "nearest"
        if self.interpolation == "auto":  # labels must not be mixed
            nearest = holds_labels(self.image)
        back = move(volume, transform.GetInverse(), native, nearest=nearest)
        if volume.data.any() and not back.data.any():
            raise DataError(
                f"{self.image}: nothing of it lies within the raw scan; is {path} its transform?"
            )
        data = back.data if nearest else back.data.astype(np.float32)
        make_folder(self.out.parent)
        Volume(data, native.affine, 1).write(self.out)
        return self.out

    def find_transform(self) -> Path:
        """The transform of the person and visit that the image's name tells."""
        found = re.match(r"sub-[^_]+(_ses-[^_]+)?", self.image.name)
        if not found:
            raise ConfigError(
                f"{self.image.name}: does not say whose it is (sub-...); "
                f"name the transform with xfm=FILE"
            )
        scan = found[0]
        tops = [self.prepared] if self.prepared else list(self.image.resolve().parents)
        for top in tops:
            folder = top.joinpath("sourcedata", *scan.split("_"))
            paths = sorted(folder.glob(f"{scan}_from-*_mode-image_xfm.txt"))
            if len(paths) > 1:
                raise ConfigError(
                    f"{folder}: holds {len(paths)} transforms; choose with xfm={paths[0]}"
                )
            if paths:
                return paths[0]
        where = self.prepared or "the folders that it is in"
        raise ConfigError(
            f"{self.image.name}: there is no transform of {scan} in {where}; "
            f"name the folder with prepared=FOLDER, or the file with xfm=FILE"
        )
