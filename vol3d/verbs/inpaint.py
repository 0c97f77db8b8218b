"""Draw a part of a brain anew, such as a lesion, so that it goes with the rest."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import NonNegativeInt, model_validator

from vol3d.config import Config
from vol3d.data.covariate_requests import checked, gathered
from vol3d.io.files import check_new_image, make_folder
from vol3d.io.header import Form, read_header
from vol3d.trained import TrainedGenerator
from vol3d.trained.inpainted import inpaint
from vol3d.training.engine import device_of
from vol3d.verbs.train import generator_at


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
        image, mask = (read_header(path, self.form) for path in (self.image, self.mask))
        model = TrainedGenerator(generator_at(self.bundle), device_of(self.device), self.sampler)
        row = model.complete(checked(model.schema, self.ask, type(self).model_fields), self.seed)
        drawn = inpaint(model, image, mask, row, self.seed)
        make_folder(self.out.parent)
        drawn.write(self.out)
        return self.out
