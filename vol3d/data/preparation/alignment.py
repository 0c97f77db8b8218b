"""Alignment to the MNI152 template, or another brain: a search of poses, then descent.

Both by mutual information.

Transforms are SimpleITK's: they map a point of the template to the same point of the scan, in mm,
LPS+. That is the direction in which ITK and ANTs move an image of the scan onto the template.
"""

from functools import lru_cache
from itertools import product

import numpy as np
import SimpleITK as sitk

from vol3d.data.synthetic.template import load_template
from vol3d.grid import LPS, Grid, empty_sitk
from vol3d.volume import Volume, moved_to

BINS = 32
"""Of the joint histogram (Mattes et al. 2003, IEEE Trans Med Imaging 22:120-128)."""
RIM_MM = 8.0
"""The metric looks at the template's brain and this much around it, so that its edge counts."""
STEP_MM = 0.7
"""No voxel moves further in one step of the descent."""
TRIED_DEGREES = (-20.0, 0.0, 20.0)
TRIED_SCALES = (0.7, 1.4)
"""Masks that tell other sizes than these tell of air, a skull or half a brain."""
ALIKE = 0.05
"""Sizes that differ by less are not tried apart."""
KEPT_POSES = 3
"""Of all poses that are tried, the best are followed downhill."""
EVEN_MM = 2.0
"""The voxels on which two brains are compared."""


@lru_cache(maxsize=4)
def template_volume(spacing: float) -> Volume:
    """The T1 template, 0 outside the brain, in the field of view of `mni_grid`."""
    template = load_template(spacing)
    return Volume(template.images[0], template.grid.affine, 4)


@lru_cache(maxsize=4)
def template_mask(spacing: float) -> Volume:
    """The template's brain."""
    t1 = template_volume(spacing)
    return Volume(t1.data > 0, t1.affine, 4)


def fit(
    brain: Volume, mask: Volume, fixed: Volume | None = None, fixed_mask: Volume | None = None
) -> sitk.AffineTransform:
    """The affine transform between the template and a brain, which stretches one to the other.

    Args:
        brain: 0 outside its mask.
        mask: where the brain is, on the same grid.
        fixed: another brain in the template's place.
        fixed_mask: where that brain is, on the same grid.

    Its `nearest_rigid` is the rigid one. A rigid fit of its own tilts brains of another size than the
    template: they turn until some part of their edge lies on the template's. So poses begin with the
    size that the masks tell, and are followed as similarities. They begin with the template's own size
    as well, as a mask may hold air, a skull or half a brain.
    """
    fixed, fixed_mask = fixed or template_volume(2.0), fixed_mask or template_mask(2.0)
    there, moving = even(fixed), even(brain)
    around = dilated(fixed_mask.resample(fixed_mask.grid.at(EVEN_MM), nearest=True), RIM_MM)
    ml, fixed_ml = (m.grid.volume_ml(m.data) for m in (mask, fixed_mask))
    scale = (ml / fixed_ml) ** (1 / 3)
    told = float(np.clip(scale, *TRIED_SCALES))
    scales = [told] if abs(told - 1) < ALIKE else [told, 1.0]
    middle, turns = centre_mm(mask), product(np.deg2rad(TRIED_DEGREES), repeat=3)
    rigid = [pose(angles, middle, fixed_mask) for angles in turns]
    poses = [as_similarity(start, s) for start in rigid for s in scales]
    found = best_pose(there, moving, around, poses)
    return descend(there, moving, around, as_affine(found), shrink=[2])


def even(volume: Volume) -> sitk.Image:
    """On voxels of 2 mm: smoothed where they were smaller, read by cubic B-splines where larger.

    Both brains are read in one way before they are compared. Where one is interpolated linearly between
    large voxels and the other is not, mutual information prefers a brain that is some percent too large.
    """
    grid = volume.grid.at(EVEN_MM)
    image, variance = floats(volume), volume.grid.blur(grid, sitk.Transform())
    if variance.any():
        image = sitk.DiscreteGaussian(image, variance.tolist(), 32, 1e-3)
    return sitk.Resample(image, empty_sitk(grid), sitk.Transform(), sitk.sitkBSpline, 0.0)


def pose(
    angles: tuple[float, float, float], middle: np.ndarray, fixed_mask: Volume | None = None
) -> sitk.Euler3DTransform:
    """A rigid start: the brain of the template, or of a mask, lies around `middle` (mm, RAS+), turned.

    Angles are in radians.
    """
    centre = centre_mm(fixed_mask or template_mask(2.0))
    start = sitk.Euler3DTransform()
    start.SetCenter((LPS @ centre).tolist())
    start.SetRotation(*map(float, angles))
    start.SetTranslation((LPS @ (middle - centre)).tolist())
    return start


def best_pose(
    fixed: sitk.Image, moving: sitk.Image, where: sitk.Image, poses: list[sitk.Transform]
) -> sitk.Transform:
    """Try poses on a grid of 8 mm, follow the best few downhill, and keep the best."""
    method = registration(where, shrink=[1], share=1.0)
    fixed8, moving8 = coarse(fixed), coarse(moving)

    def cost(transform: sitk.Transform) -> float:
        method.SetInitialTransform(transform, inPlace=False)
        try:
            return method.MetricEvaluate(fixed8, moving8)
        except RuntimeError:  # the images do not overlap in this pose
            return np.inf

    tried = sorted(poses, key=cost)[:KEPT_POSES]
    return min((descend(fixed, moving, where, p, shrink=[4]) for p in tried), key=cost)


def descend(
    fixed: sitk.Image,
    moving: sitk.Image,
    where: sitk.Image,
    start: sitk.Transform,
    shrink: list[int],
) -> sitk.Transform:
    """Follow the mutual information downhill from `start`, level by level."""
    method = registration(where, shrink)
    method.SetOptimizerAsGradientDescent(
        learningRate=1.0,
        numberOfIterations=100,
        convergenceMinimumValue=1e-5,
        convergenceWindowSize=10,
        estimateLearningRate=method.EachIteration,
        maximumStepSizeInPhysicalUnits=STEP_MM,  # larger steps ran away on whole heads
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=False)
    found = method.Execute(fixed, moving)
    if found.GetName() == "CompositeTransform":  # of which the last is the one that moved
        composite = sitk.CompositeTransform(found)
        found = composite.GetNthTransform(composite.GetNumberOfTransforms() - 1)
    return type(start)(found)


def registration(
    where: sitk.Image, shrink: list[int], share: float = 0.5
) -> sitk.ImageRegistrationMethod:
    """Mattes' mutual information in `where` of the template; the same samples each time."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(where)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(share, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(shrink)
    method.SetSmoothingSigmasPerLevel([float(s) for s in shrink])  # mm: half a voxel of the level
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.MetricUseFixedImageGradientFilterOff()  # differences at the samples do, and cost less
    method.MetricUseMovingImageGradientFilterOff()
    return method


def as_similarity(rigid: sitk.Euler3DTransform, scale: float) -> sitk.Similarity3DTransform:
    """The same turn and shift, and everything so many times larger."""
    similarity = sitk.Similarity3DTransform()
    similarity.SetCenter(rigid.GetCenter())
    similarity.SetMatrix(rigid.GetMatrix())
    similarity.SetScale(scale)
    similarity.SetTranslation(rigid.GetTranslation())
    return similarity


def as_affine(
    start: sitk.Euler3DTransform | sitk.Similarity3DTransform,
) -> sitk.AffineTransform:
    """The same map with all twelve degrees of freedom."""
    affine = sitk.AffineTransform(3)
    affine.SetCenter(start.GetCenter())
    affine.SetMatrix(start.GetMatrix())
    affine.SetTranslation(start.GetTranslation())
    return affine


def nearest_rigid(affine: sitk.AffineTransform) -> sitk.Euler3DTransform:
    """The rotation nearest to an affine map (polar decomposition), with the same centre kept."""
    U, _, V = np.linalg.svd(np.reshape(affine.GetMatrix(), (3, 3)))
    rigid = sitk.Euler3DTransform()
    rigid.SetCenter(affine.GetCenter())
    rigid.SetMatrix((U @ V).ravel().tolist())
    rigid.SetTranslation(affine.GetTranslation())
    return rigid


def stretch(affine: sitk.AffineTransform) -> float:
    """How many times larger a brain is than the template, to which `affine` was fitted."""
    return float(abs(np.linalg.det(np.reshape(affine.GetMatrix(), (3, 3)))))


def move(volume: Volume, transform: sitk.Transform, grid: Grid, *, nearest: bool = False) -> Volume:
    """The volume on another grid, through a transform that maps the grid's points to the volume's."""
    return Volume(moved_to(volume, grid, transform, nearest=nearest).data, grid.affine, 4)


def move_mask(mask: Volume, transform: sitk.Transform, grid: Grid) -> Volume:
    """A mask on another grid: where at least half of a voxel is in it."""
    share = move(Volume((mask.data > 0).astype(np.float32), mask.affine), transform, grid)
    return Volume(share.data > 0.5, grid.affine, 4)


def floats(volume: Volume) -> sitk.Image:
    """As a SimpleITK image of float32, which registration asks for."""
    return Volume(volume.data.astype(np.float32), volume.affine).to_sitk()


def coarse(image: sitk.Image) -> sitk.Image:
    """The image smoothed and on a quarter of its voxels per axis, where they are about 2 mm or less."""
    smooth = sitk.SmoothingRecursiveGaussian(image, 4.0)  # mm
    factors = [max(1, round(8 / s)) for s in image.GetSpacing()]
    return sitk.Shrink(smooth, factors)


def dilated(mask: Volume, mm: float) -> sitk.Image:
    """The mask and everything within some mm of it."""
    return sitk.SignedMaurerDistanceMap(mask.to_sitk(), useImageSpacing=True) < mm


def centre_mm(mask: Volume) -> np.ndarray:
    """The middle of a mask in mm, RAS+."""
    index = np.argwhere(mask.data > 0).mean(0)
    return (mask.affine @ np.append(index, 1))[:3]
