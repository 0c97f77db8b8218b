"""Other programs that register, each a function of two images on one grid; see compare_registrations.py.

Each takes `moving` and `fixed`, Volumes in [0, 1] on one grid, 0 outside the brain, and gives the
displacement [3, X, Y, Z] in mm, RAS+: the fixed point x goes with x + u(x) of the moving image.
"""

import io
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from vol3d.transforms.displacement import to_mm
from vol3d.transforms.transform import field_of, sampled
from vol3d.transforms.transform_file import read_chain, read_transform
from vol3d.volume import Volume

Method = Callable[[Volume, Volume], np.ndarray]


def demons(moving: Volume, fixed: Volume) -> np.ndarray:
    """SimpleITK's diffeomorphic demons (Vercauteren et al. 2009), three levels, histograms matched."""
    target = fixed.to_sitk()
    source = sitk.HistogramMatching(moving.to_sitk(), target, 256, 15)
    u = None
    for shrink, iterations in ((4, 100), (2, 60), (1, 30)):
        f, m = (shrunk(image, shrink) for image in (target, source))
        method = sitk.DiffeomorphicDemonsRegistrationFilter()
        method.SetNumberOfIterations(iterations)
        method.SetSmoothDisplacementField(True)
        method.SetStandardDeviations(1.5)
        u = method.Execute(f, m, *([] if u is None else [sitk.Resample(u, f)]))
    return field_of(sitk.DisplacementFieldTransform(sitk.Cast(u, sitk.sitkVectorFloat64)))[0]


def shrunk(image: sitk.Image, factor: int) -> sitk.Image:
    """Smoothed by half of the new voxel, and on fewer of them."""
    if factor == 1:
        return image
    sigmas = [factor * s / 2 for s in image.GetSpacing()]
    return sitk.Shrink(sitk.SmoothingRecursiveGaussian(image, sigmas), [factor] * 3)


def bspline(moving: Volume, fixed: Volume) -> np.ndarray:
    """SimpleITK's B-splines, knots 40, 20 and 10 mm apart, Mattes' mutual information, L-BFGS."""
    target = fixed.to_sitk()
    mesh = [max(1, round(n * s / 40)) for n, s in zip(fixed.shape, fixed.spacing, strict=True)]
    spline = sitk.BSplineTransformInitializer(target, mesh, 3)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(sitk.BinaryDilate(sitk.Cast(target > 0, sitk.sitkUInt8), [3, 3, 3]))
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.5, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsLBFGS2(1e-5, 100, deltaConvergenceTolerance=1e-4)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0, 0.0])
    method.SetInitialTransformAsBSpline(spline, inPlace=True, scaleFactors=[1, 2, 4])
    method.Execute(target, moving.to_sitk())
    return sampled(spline, fixed.grid)


def syn(moving: Volume, fixed: Volume, **options: object) -> np.ndarray:
    """Antspyx: SyN alone (Avants et al. 2008), from where the images lie."""
    import ants

    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("moving.nii.gz", "fixed.nii.gz")]
        for volume, file in zip((moving, fixed), files, strict=True):
            volume.write(file)
        m, f = map(ants.image_read, files)
        found = ants.registration(
            f, m, "SyNOnly", initial_transform="identity", outprefix=f"{folder}/", random_seed=1,
            **options,
        )  # fmt: skip
        paths = [Path(p) for p in found["fwdtransforms"]]
        return sampled(read_chain(paths, [False] * len(paths)), fixed.grid)


def syn_cc(moving: Volume, fixed: Volume) -> np.ndarray:
    """The same with correlation in windows of 9 voxels and four levels, as antsRegistrationSyN.sh."""
    options = {"syn_metric": "CC", "syn_sampling": 4, "reg_iterations": (100, 70, 50, 20)}
    return syn(moving, fixed, **options)


def greedy(moving: Volume, fixed: Volume) -> np.ndarray:
    """picsl-greedy (Yushkevich et al. 2016): stationary velocities, correlation in 5^3 voxels."""
    from picsl_greedy import Greedy3D

    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.nii.gz" for name in ("moving", "fixed", "warp")}
        moving.write(files["moving"])
        fixed.write(files["fixed"])
        threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
        Greedy3D().execute(
            f"-i {files['fixed']} {files['moving']} -o {files['warp']} -sv -m NCC 2x2x2 "
            f"-n 100x50x30 -s 2vox 1vox -threads {threads} -V 0",
            out=io.StringIO(),
        )
        return field_of(read_transform(files["warp"]))[0]


def voxelmorph(weights: Path) -> Method:
    """MONAI's VoxelMorph, as scripts/train_voxelmorph.py leaves it."""
    from safetensors.torch import load_file

    net = voxelmorph_net()
    net.load_state_dict(load_file(weights))
    net.eval()

    @torch.inference_mode()
    def found(moving: Volume, fixed: Volume) -> np.ndarray:
        m, f = (torch.from_numpy(np.ascontiguousarray(v.data))[None, None] for v in (moving, fixed))
        _, u = net(m, f)
        return to_mm(u[0].numpy().astype(np.float64), fixed.grid)

    return found


def voxelmorph_net() -> torch.nn.Module:
    """Of the published size, but for one level less: its grids are halves of halves of 80 voxels."""
    from monai.networks.nets import VoxelMorph, VoxelMorphUNet

    backbone = VoxelMorphUNet(
        spatial_dims=3,
        in_channels=2,
        unet_out_channels=32,
        channels=(16, 32, 32, 32),
        final_conv_channels=(16, 16),
    )
    return VoxelMorph(backbone, integration_steps=7, half_res=True)


def peers() -> tuple[dict[str, Method], list[str]]:
    """The programs that are installed, and the names of packages that are not."""
    found: dict[str, Method] = {"demons": demons, "B-spline": bspline}
    offered = {"ants": {"SyN": syn, "SyN, CC": syn_cc}, "picsl_greedy": {"greedy": greedy}}
    missing = []
    for package, methods in offered.items():
        if find_spec(package):
            found |= methods
        else:
            missing.append(package)
    return found, missing
