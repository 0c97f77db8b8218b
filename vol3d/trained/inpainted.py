"""A part of a brain drawn anew by a generator, so that it goes with the rest."""

import numpy as np
import torch

from vol3d.data.covariate_types import Row
from vol3d.data.native_scan import volume_of
from vol3d.data.network_images import normalise, one_of
from vol3d.data.scan_checks import check_contrast
from vol3d.diffusion.inpainting import inpainting
from vol3d.errors import ConfigError, DataError
from vol3d.io.header import Header
from vol3d.trained.generator import TrainedGenerator
from vol3d.volume import Volume


def inpaint(model: TrainedGenerator, image: Header, mask: Header, row: Row, seed: int) -> Volume:
    """The image, float32, with what the mask covers drawn anew; every other voxel as it was.

    Args:
        model: that draws images.
        image: a brain on the model's grid, in any orientation.
        mask: on the same grid; what is above 0 is drawn.
        row: complete covariates.
        seed: fixes what is drawn.

    Raises:
        ConfigError: the model draws label maps.
        DataError: the image has no contrast, or lies on another grid than the model draws on, or than
            the mask; the mask covers nothing or everything.
    """
    if model.codec.is_labels:
        raise ConfigError(f"{model.path}: draws label maps; a model that draws images is due")
    whole, hole = volume_of(image), volume_of(mask)
    check_contrast(whole, image.path)
    if not hole.grid.matches(whole.grid, 0.01):
        raise DataError(f"{mask.path}: lies on a grid of {hole.grid}, the image on {whole.grid}")
    covered = np.count_nonzero(hole.data > 0)
    if covered in (0, hole.data.size):
        raise DataError(f"{mask.path}: covers {'nothing' if not covered else 'every voxel'}")
    brain, grid = whole.reorient("RAS"), model.grid_of(row)
    if not brain.grid.matches(grid, 0.01):
        raise DataError(
            f"{image.path}: lies on a grid of {brain.grid}, the model draws on {grid}; prepare the "
            f"scan, or resample it"
        )
    known = model.codec.encode_given(model.kind, torch.from_numpy(normalise(brain.data))[None])
    stays = model.codec.known_beside(torch.from_numpy(hole.reorient("RAS").data > 0))
    around = inpainting(known[None], stays[None])
    drawn = model.generate([row], [seed], around=around)[0, 0].cpu().numpy()
    drawn = Volume(drawn * one_of(brain.data), brain.affine).reorient(whole.orientation)
    data = np.where(hole.data > 0, drawn.data, whole.data).astype(np.float32)
    return Volume(data, whole.affine, whole.space_code)
