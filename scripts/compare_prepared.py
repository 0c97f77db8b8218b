"""Prepared scans beside the same people's images from elsewhere: what differs, pose or content.

    python scripts/compare_prepared.py PREPARED OTHER [ENTITIES_OF_OTHER]

A row a person: correlation in the other's brain as they lie, and after one more rigid registration; how
far apart the poses are; and each one's correlation with the template, in either brain.
"""

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from vol3d.data.preparation.alignment import centre_mm, floats, move, template_volume
from vol3d.grid import LPS
from vol3d.volume import Volume


def main(prepared: str, other: str, entities: str = "_*res-2*desc-brain") -> None:
    """Print the table."""
    print("person\tas_they_lie\trealigned\tapart_mm\tapart_degrees\ttemplate_ours\ttemplate_theirs")
    for ours in sorted(Path(prepared).glob("sub-*/**/*desc-brain_T1w.nii.gz")):
        person = ours.name.split("_")[0]
        (theirs,) = Path(other).glob(f"{person}/anat/{person}{entities}_T1w.nii.gz")
        a, b = (Volume.read(p).reorient("RAS") for p in (ours, theirs))
        b = Volume(b.data.astype(np.float32), b.affine)
        between = register(b, a)
        middle = centre_mm(Volume(b.data > 0, b.affine))
        shift = LPS @ np.array(between.TransformPoint((LPS @ middle).tolist())) - middle
        turn = np.degrees(np.arccos((np.trace(np.reshape(between.GetMatrix(), (3, 3))) - 1) / 2))
        template = template_volume(b.spacing[0])
        row = [
            correlation(b.data, a.data, b.data > 0),
            correlation(b.data, move(a, between, b.grid).data, b.data > 0),
            np.linalg.norm(shift),
            turn,
            *(
                correlation(template.data, x, (template.data > 0) | (x > 0))
                for x in (a.data, b.data)
            ),
        ]
        print("\t".join([person, *(f"{v:.3f}" for v in row)]))


def correlation(x: np.ndarray, y: np.ndarray, where: np.ndarray) -> float:
    """Pearson's, over the voxels of a mask."""
    return float(np.corrcoef(x[where], y[where])[0, 1])


def register(fixed: Volume, moving: Volume) -> sitk.Euler3DTransform:
    """The rigid transform between two images of one brain, by correlation."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([8.0, 4.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    start = sitk.Euler3DTransform()
    start.SetCenter((LPS @ centre_mm(Volume(fixed.data > 0, fixed.affine))).tolist())
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(floats(fixed), floats(moving))
    return start


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
