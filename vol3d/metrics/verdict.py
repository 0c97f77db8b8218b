"""What figures mean, in words that follow sign and interval; and which of them are out of line."""

import logging
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)
FEW_PAIRS = 3
"""With fewer there is no telling how much pairs differ."""
SLOPE = 0.25
"""A slope whose interval reaches further than this from 1 has not been shown to be 1."""


@dataclass(frozen=True)
class Finding:
    """A sentence on one figure.

    Attributes:
        words: the sentence.
        is_amiss: one should look at it before relying on the model.
        is_open: too few were measured to tell.
    """

    words: str
    is_amiss: bool = False
    is_open: bool = False


def findings(summary: dict[str, Any]) -> list[Finding]:
    """What an evaluation found by its summary.json, a sentence each."""
    found = [of_reconstruction(summary["reconstruction"])] if summary.get("reconstruction") else []
    found += [of_ruler(plain(n), s) for n, s in summary.get("segmenter", {}).items()]
    found += [of_volume(plain(n), s) for n, s in summary.get("conditioning", {}).items()]
    return [*found, *([of_diversity(summary["diversity"])] if summary.get("diversity") else [])]


def overall(found: list[Finding]) -> str:
    """How many findings are out of line."""
    amiss = sum(f.is_amiss for f in found)
    if not found:
        return "Nothing was measured, so nothing can be said of it."
    if not amiss:
        return f"Nothing that was measured is out of line ({len(found)} findings{untold(found)})."
    are, them = ("is", "it") if amiss == 1 else ("are", "them")
    return (
        f"{amiss} of {len(found)} findings {are} out of line; look at {them} before you rely on this "
        f"generator."
    )


def untold(found: list[Finding]) -> str:
    """How many findings tell that there is no telling, in words that follow their number."""
    n = sum(f.is_open for f in found)
    return f"; {n} of them cannot be told" if n else ""


def of_reconstruction(quality: dict[str, Any]) -> Finding:
    """Whether an autoencoder does better than none, by what `measure_reconstructions` gives."""
    got, plainly = quality["psnr_brain_db"], quality["psnr_brain_block_average_db"]
    figures = f"in the brain {got:.1f} dB; averaging blocks of voxels {plainly:.1f} dB"
    if got > plainly:
        return Finding(f"The autoencoder does better than averaging blocks of voxels ({figures}).")
    return Finding(
        f"The autoencoder does no better than averaging blocks of voxels ({figures}), and samples are no "
        f"better than it: train it longer, or on more scans.",
        is_amiss=True,
    )


def tell_reconstruction(quality: dict[str, Any]) -> None:
    """Warn of an autoencoder that does no better than none; not of one that was never measured."""
    if quality and (found := of_reconstruction(quality)).is_amiss:
        log.warning("warning: %s", found.words)


def figures_of(s: dict[str, Any]) -> tuple[str, str]:
    """The correlation and the slope of what `agreement` gives, in words."""
    figures = f"r {s['spearman_r']:.2f}{interval(s, 'spearman_r')}, n {s['n']}"
    return figures, f"{s['slope']:.2f}{interval(s, 'slope')}"


def of_volume(name: str, s: dict[str, Any]) -> Finding:
    """Whether a volume comes out as it is asked for; `s` is what `agreement` gives."""
    figures, slope = figures_of(s)
    (r_low, r_high), (low, high) = s["spearman_r_ci"], s["slope_ci"]
    if r_high < 0:
        return Finding(
            f"The {name} volume comes out the wrong way round: the more is asked for, the less there "
            f"is ({figures}).",
            is_amiss=True,
        )
    if not r_low > 0:
        turned = ", and rather the wrong way round" * (s["spearman_r"] < 0)
        return Finding(
            f"The {name} volume does not follow what is asked for, as far as these samples can "
            f"tell{turned} ({figures}).",
            is_amiss=True,
        )
    follows = f"The {name} volume follows what is asked for ({figures})"
    if low <= 1 <= high:
        if is_wide(low, high):
            words = f"{follows}; whether by as much cannot be told (slope {slope})."
            return Finding(words, is_open=True)
        return Finding(f"{follows}, and by as much (slope {slope}).")
    less = "less" if high < 1 else "more"
    return Finding(f"{follows}, but changes by {less} (slope {slope}).", is_amiss=True)


def of_ruler(name: str, s: dict[str, Any]) -> Finding:
    """Whether a segmenter measures real scans as they are; `s` is what `agreement` gives."""
    figures, slope = figures_of(s)
    if not s["spearman_r_ci"][0] > 0:
        return Finding(
            f"The segmenter cannot measure the {name} volume of real scans ({figures}), so what it says "
            f"of samples means nothing.",
            is_amiss=True,
        )
    low, high = s["slope_ci"]
    if low <= 1 <= high:
        measures = f"The segmenter measures the {name} volume of real scans"
        if is_wide(low, high):
            return Finding(
                f"{measures} in the right order; whether differences have their size cannot be told "
                f"(slope {slope}, {figures}).",
                is_open=True,
            )
        return Finding(f"{measures} ({figures}).")
    too = "small" if high < 1 else "large"
    return Finding(
        f"The segmenter makes differences in the {name} volume of real scans too {too} (slope {slope}, "
        f"{figures}), and so those of samples.",
        is_amiss=True,
    )


def is_wide(low: float, high: float) -> bool:
    """Whether the interval of a slope is too wide to call the slope 1; see `SLOPE`."""
    return max(1 - low, high - 1) > SLOPE


def of_diversity(d: dict[str, Any]) -> Finding:
    """Whether samples differ from each other about as much as people do.

    They are far from that where the two means are more than chance, and more than the spread among pairs
    of people, apart. Pairs share volumes, so that those of n volumes count as n / 2.

    Args:
        d: what `mean_ms_ssim` gives of `samples` and of `real`.
    """
    apart = d["samples"]["ms_ssim"] - d["real"]["ms_ssim"]
    chance = sum(s["ms_ssim_sd"] ** 2 / (s["n_volumes"] / 2) for s in d.values()) ** 0.5
    figures = (
        f"MS-SSIM of two samples {d['samples']['ms_ssim']:.3f}, of two people "
        f"{d['real']['ms_ssim']:.3f}, sd {d['real']['ms_ssim_sd']:.3f}"
    )
    if min(s["n_pairs"] for s in d.values()) < FEW_PAIRS:
        words = f"Whether samples are too much alike, so few pairs cannot tell ({figures})."
        return Finding(words, is_open=True)
    if abs(apart) <= max(1.96 * chance, d["real"]["ms_ssim_sd"]):
        return Finding(f"Samples differ from each other about as much as people do ({figures}).")
    if apart > 0:
        return Finding(f"Samples are too much alike ({figures}).", is_amiss=True)
    return Finding(
        f"Samples differ from each other more than people do ({figures}): some may be no brains; look "
        f"at them.",
        is_amiss=True,
    )


def interval(stats: dict[str, Any], name: str) -> str:
    """A 95 % interval in brackets."""
    low, high = stats[f"{name}_ci"]
    return f" [{low:.3g}, {high:.3g}]"


def plain(name: str) -> str:
    """A structure's name in words: ventricles for ventricles_ml."""
    return name.removesuffix("_ml").replace("_", " ")
