"""Draw a part of a brain anew, such as a lesion, so that it goes with the rest."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import NonNegativeInt, model_validator

from vol3d.config import Config
from vol3d.data.covariate_requests import checked, gathered
from vol3d.data.network_images import normalise, one_of
from vol3d.diffusion.inpainting import inpainting
from vol3d.errors import ConfigError, DataError
from vol3d.io.files import check_new_image, make_folder
from vol3d.io.header import Form
from vol3d.trained import TrainedGenerator
from vol3d.training.engine import device_of
from vol3d.verbs.train import generator_at
from vol3d.volume import Volume


class Inpaint(Config):
    """Draw a part of a brain anew: vol3d inpaint BUNDLE IMAGE MASK OUT age=70 sex=F.

    What the mask covers is drawn by the model, to go with the rest, whose voxels stay as they are. Any
    covariate of the model may be given by its name. The image lies on the model's grid, as `vol3d
    prepare` makes it; OUT lies on the image's.
    """

    positional: ClassVar[tuple[str, ...]] = ("bundle", "image", "mask", "out")
    bundle: Path
    """Bundle or run of a diffusion model; `ready` is the one that comes with vol3d."""
    image: Path
    """NIfTI image of a brain."""
    mask: Path
    """NIfTI image on the same grid; what is above 0 is drawn anew."""
    out: Path
    """NIfTI file to write."""
    seed: NonNegativeInt = 0
    """Fixes what is drawn; others draw it otherwise."""
    ask: dict[str, Any] = {}
    """Covariates; ask.age=70 is the long form of age=70."""
    sampler: dict[str, Any] = {}
    """Changes to the model's sampler: sampler.steps=30, sampler.guidance=2, sampler.solver=ddpm."""
    form: Form | None = None
    """sform or qform: what holds where a header says two things about left and right."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    overwrite: bool = False
    """Replace OUT if it is there."""

    @model_validator(mode="before")
    @classmethod
    def gather(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Words that are no settings are covariates: age=70."""
        return gathered(given, cls.model_fields)

    def execute(self) -> Path:
        """Read, draw, write."""
        check_new_image(self.out, self.overwrite)
        image, hole = self.read()
        device = device_of(self.device)
        model = TrainedGenerator(generator_at(self.bundle), device, self.sampler)
        if model.codec.is_labels:
            raise ConfigError(f"{self.bundle}: draws label maps; a model that draws images is due")
        row = model.complete(checked(model.schema, self.ask, type(self).model_fields), self.seed)
        brain, hole_ras = image.reorient("RAS"), hole.reorient("RAS")
        grid = model.grid_of(row)
        if not brain.grid.matches(grid, 0.01):
            raise DataError(
                f"{self.image}: lies on a grid of {brain.grid}, the model draws on {grid}; prepare the "
                f"scan, or resample it"
            )
        known = model.codec.encode_given(model.kind, torch.from_numpy(normalise(brain.data))[None])
        mask = model.codec.known_beside(torch.from_numpy(hole_ras.data > 0))
        around = inpainting(known[None], mask[None])
        drawn = model.generate([row], [self.seed], around=around)[0, 0].cpu().numpy()
        drawn = Volume(drawn * one_of(brain.data), brain.affine).reorient(image.orientation)
        data = np.where(hole.data > 0, drawn.data, image.data).astype(np.float32)
        make_folder(self.out.parent)
        Volume(data, image.affine, image.space_code).write(self.out)
        return self.out

    def read(self) -> tuple[Volume, Volume]:
        """Image and mask.

        Raises:
            DataError: they lie on different grids, or the mask covers nothing or everything.
        """
        image, mask = (Volume.read(path, self.form) for path in (self.image, self.mask))
        if not mask.grid.matches(image.grid, 0.01):
            raise DataError(
                f"{self.mask}: lies on a grid of {mask.grid}, the image on {image.grid}"
            )
        covered = np.count_nonzero(mask.data > 0)
        if covered in (0, mask.data.size):
            raise DataError(f"{self.mask}: covers {'nothing' if not covered else 'every voxel'}")
        return image, mask
