"""The bias field, a slow drift of brightness across the head, estimated by N4 and divided out."""

import numpy as np
import SimpleITK as sitk
from pydantic import Field, PositiveFloat

from vol3d.config import Config
from vol3d.data.preparation.alignment import floats
from vol3d.volume import Volume


class BiasField(Config):
    """N4 (Tustison et al. 2010, IEEE Trans Med Imaging 29:1310-1320)."""

    voxel_mm: PositiveFloat = 4.0
    """It is estimated on about this voxel size, and divided out at the full one; it is smooth."""
    iterations: list[int] = Field(default=[50, 50, 50, 50], min_length=1)
    """At most this many at each level; each level halves the distance of the spline's knots."""

    def estimate(self, image: Volume, mask: Volume) -> np.ndarray:
        """The field [X, Y, Z], 1 on average (of its logarithm) within the mask."""
        full = floats(image)
        inside = Volume((mask.data > 0) & (image.data > 0), image.affine).to_sitk()
        shrink = [max(1, round(self.voxel_mm / s)) for s in image.spacing]
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations(self.iterations)
        n4.Execute(sitk.Shrink(full, shrink), sitk.Shrink(inside, shrink))
        log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(full)).transpose(2, 1, 0)
        return np.exp(log_field - log_field[mask.data > 0].mean(), dtype=np.float32)
