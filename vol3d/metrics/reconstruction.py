"""How close a reconstruction comes to the scan, in the brain and over all: PSNR, SSIM and L1.

Intensities lie in [0, 1], so the data range of PSNR and SSIM is 1.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from vol3d.data.brain import LEVELS, overlaps
from vol3d.metrics.block_average import block_average, equal_values_factor
from vol3d.metrics.similarity import ms_ssim, ssim, ssim_map


def brain_mask(x: Tensor) -> Tensor:
    """The brain of a stripped scan, [1, X, Y, Z] bool like it: voxels above zero, holes filled."""
    from scipy import ndimage  # here: it takes a while to load

    filled = ndimage.binary_fill_holes(x[0].cpu().numpy() > 0)
    return torch.from_numpy(filled)[None].to(x.device)


def psnr_db(x: Tensor, y: Tensor, mask: Tensor) -> float:
    """Peak signal-to-noise ratio within a mask: -10 log10 of the mean squared error, peak 1."""
    from monai.metrics import PSNRMetric  # here: MONAI takes seconds to load

    return float(PSNRMetric(max_val=1.0)(y[mask][None], x[mask][None]))


def compare(x: Tensor, y: Tensor, mask: Tensor) -> dict[str, float]:
    """All measures of one reconstruction.

    `ssim_brain` is the mean of the SSIM map over the brain's voxels; the map is computed with
    zeros continued past the volume's border (`ssim_map`). `ssim` and `ms_ssim` are MONAI's means
    over the windows inside the whole volume, most of which may be background.

    Args:
        x: the scan, [1, X, Y, Z] in [0, 1].
        y: its reconstruction.
        mask: the brain, [1, X, Y, Z] bool.

    Returns:
        psnr_brain_db, psnr_db, ssim_brain, ssim, ms_ssim, l1_brain, l1.
    """
    if not mask.any():
        raise ValueError("the brain mask is empty: every voxel of the scan is zero")
    apart = (x - y).abs()
    return {
        "psnr_brain_db": psnr_db(x, y, mask),
        "psnr_db": psnr_db(x, y, torch.ones_like(mask)),
        "ssim_brain": float(ssim_map(x[None], y[None])[0][mask].mean()),
        "ssim": float(ssim(x[None], y[None])),
        "ms_ssim": float(ms_ssim(x[None], y[None])),
        "l1_brain": float(apart[mask].mean()),
        "l1": float(apart.mean()),
    }


def measure_scan(x: Tensor, y: Tensor, downsample: int, z_channels: int) -> dict[str, float]:
    """`compare`, beside the in-brain PSNR of block averaging.

    psnr_brain_block_average_db is at the same factor per axis, and
    psnr_brain_block_average_equal_values_db at the same number of stored values.
    """
    mask = brain_mask(x)
    equal = equal_values_factor(downsample, z_channels)
    return compare(x, y, mask) | {
        "psnr_brain_block_average_db": psnr_db(x, block_average(x, downsample, mask), mask),
        "psnr_brain_block_average_equal_values_db": psnr_db(x, block_average(x, equal, mask), mask),
    }


def measure_reconstructions(
    pairs: Iterable[tuple[Tensor, Tensor]], names: list[str], downsample: int, z_channels: int
) -> dict[str, float | int | str]:
    """Mean and standard deviation over scans of all measures; empty where there is no scan.

    Scans and reconstructions come in pairs, [1, 1, X, Y, Z] in [0, 1]; `downsample` and
    `z_channels` are the autoencoder's.

    Also brain_level, where the brain ends in a reconstruction (`vol3d.data.brain`), and with it
    brain_overlap, the mean Dice overlap with the scan's own brain.
    """
    rows, by_level = {}, []
    for name, (x, y) in zip(names, pairs, strict=True):
        rows[name] = measure_scan(x[0], y[0], downsample, z_channels)
        by_level.append(overlaps(brain_mask(x[0])[0].numpy(), y[0, 0].numpy()))
    if not rows:
        return {}
    overlap = np.mean(by_level, axis=0)
    best = overlap.argmax()
    return summarise(rows) | {
        "brain_level": LEVELS[best],
        "brain_overlap": float(overlap[best]),
    }


def summarise(rows: dict[str, dict[str, float]]) -> dict[str, float | int | str]:
    """n, then mean and standard deviation of every measure, and the worst scan by name."""
    summary: dict[str, float | int | str] = {"n": len(rows)}
    for name in next(iter(rows.values())):
        values = np.array([row[name] for row in rows.values()])
        summary[name] = float(values.mean())
        summary[f"{name}_sd"] = float(values.std(ddof=1)) if len(rows) > 1 else 0.0
    worst = min(rows, key=lambda scan: rows[scan]["psnr_brain_db"])
    return {**summary, "worst_scan": worst, "worst_psnr_brain_db": rows[worst]["psnr_brain_db"]}
