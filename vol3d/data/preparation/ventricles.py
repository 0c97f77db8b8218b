"""The volume of the lateral ventricles, told from their surroundings by place and darkness."""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from vol3d.data.brain import solid
from vol3d.data.preparation.alignment import move, stretch
from vol3d.data.synthetic.template import TISSUES, load_template
from vol3d.volume import Volume

MM = 2.0
"""They are measured on the template at this spacing."""
REACH_MM = 10.0
"""How far they may reach beyond the template's, once that is stretched onto the brain."""
AROUND_MM = 15.0
"""White matter within this of them is what they are darker than."""


def ventricles_ml(brain: Volume, mask: Volume, affine: sitk.AffineTransform) -> float:
    """Fluid in one piece with the place of the template's lateral ventricles, in ml of the scan.

    Half of a voxel is fluid where it is halfway between the darkest of that place and the white matter
    around it.

    Args:
        brain: T1-weighted, in which fluid is dark; after the bias field, 0 outside its mask.
        mask: where the brain is, on the same grid.
        affine: `fit` of them.
    """
    template = load_template(MM)
    x = move(brain, affine, template.grid).data  # [X, Y, Z], the brain of the template's size
    theirs = template.tissues[TISSUES.index("ventricles")]
    away = ndimage.distance_transform_edt(theirs < 0.5) * MM
    part = move(Volume(mask.data.astype(np.float32), mask.affine), affine, template.grid)
    core, inside = theirs > 0.7, solid(Volume(part.data > 0.5, part.affine)).data
    fluid, white = np.percentile(x[core], 10), np.percentile(x[inside & (away < AROUND_MM)], 75)
    dark = inside & (x < (fluid + white) / 2) & (away < REACH_MM)
    pieces, _ = ndimage.label(dark)
    ours = np.isin(pieces, np.unique(pieces[core & dark]))
    return template.grid.volume_ml(ours) * stretch(affine)
