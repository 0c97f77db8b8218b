"""The report of `vol3d evaluate`: how good a generator is, in pictures and plain sentences."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vol3d.metrics.verdict import findings, interval, overall, plain
from vol3d.planes import DIFFERENCE_LIMIT, middle
from vol3d.report.page import Picture, Section, Table, page
from vol3d.report.pictures import Panel, Spacing, in_rows, panels_in_rows
from vol3d.report.plots import Cloud, clouds

PLANES = (
    "Axial, coronal and sagittal slices of RAS+ volumes through the same voxel, to scale. L and R "
    "are the person's left and right (neurological convention), P and A posterior and anterior."
)


@dataclass(frozen=True)
class Reconstructed:
    """A held-out scan [X, Y, Z], its reconstruction, and its in-brain PSNR."""

    name: str
    x: np.ndarray
    y: np.ndarray
    psnr_brain_db: float


@dataclass(frozen=True)
class Compared:
    """A sample [X, Y, Z], and if people are pictured a scan of about the volume that was asked for."""

    sample_title: str
    sample: np.ndarray
    real_title: str = ""
    real: np.ndarray | None = None


@dataclass
class Evidence:
    """What the report shows besides the figures of the summary.

    Attributes:
        compared_by: the structure that they are sorted by.
        conditioning: asked against measured, per structure.
        made: how it was made: a name and a value per line.
    """

    spacing: Spacing
    reconstructed: list[Reconstructed] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)
    compared_by: str = ""
    conditioning: list[Cloud] = field(default_factory=list)
    segmenter: list[Cloud] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=dict)
    people: set[str] = field(default_factory=set)


def evaluation_page(summary: dict[str, Any], evidence: Evidence) -> str:
    """The HTML of the report, from the content of summary.json, pictures and points."""
    sections = [verdict(summary, evidence.people), headline(summary)]
    if summary.get("reconstruction"):
        sections.append(reconstruction(summary["reconstruction"], evidence))
    if summary.get("conditioning") or evidence.compared:
        sections.append(conditioning(summary, evidence))
    if summary.get("segmenter"):
        sections.append(segmenter(summary["segmenter"], evidence))
    if summary.get("diversity"):
        sections.append(diversity(summary["diversity"], summary.get("spread_evenly", False)))
    made = Table("For the record", ["", ""], [[k, v] for k, v in evidence.made.items()])
    sections.append(Section("How this was made", tables=[made]))
    return page("How good is this generator?", sections)


def verdict(summary: dict[str, Any], people: set[str]) -> Section:
    """What the figures mean; what is out of line stands out. Then who is in this report."""
    found = findings(summary)
    private = (
        f"This report names real people ({len(people)}) and shows slices of their brains: pass it on "
        f"only to whom you may pass on the scans. pictures_of_people=false leaves both out."
    )
    return Section(
        "In short",
        [overall(found)],
        [
            *[f.words for f in found if f.is_amiss],
            *summary.get("notes", []),
            *([private] if people else []),
        ],
        rest=[f.words for f in found if not f.is_amiss],
    )


def headline(summary: dict[str, Any]) -> Section:
    """The headline figures as a table, a sentence each."""
    rows, header = list(headline_rows(summary)), ["what", "figure", "in words"]
    table = Table("In brackets 95 % bootstrap intervals", header, rows)
    return Section("Headline figures", tables=[table])


def headline_rows(summary: dict[str, Any]) -> Iterator[list[str]]:
    """What it is, the figure, and the sentence."""
    if r := summary.get("reconstruction"):
        gain = r["psnr_brain_db"] - r["psnr_brain_block_average_db"]
        yield [
            "Reconstruction",
            f"{r['psnr_brain_db']:.1f} dB",
            f"In-brain PSNR of {r['n']} held-out scans after the autoencoder, {gain:+.1f} dB "
            f"against averaging blocks of {r['downsample']} voxels per axis. Over the whole "
            f"volume {r['psnr_db']:.1f} dB.",
        ]
    for name, c in summary.get("conditioning", {}).items():
        yield [
            f"Asked for: {plain(name)}",
            f"r = {c['spearman_r']:.2f}",
            f"Spearman correlation{interval(c, 'spearman_r')} of what is measured with what is "
            f"asked for, slope {c['slope']:.2f}{interval(c, 'slope')}, over {c['n']} samples asked "
            f"for between {c['asked'][0]:.0f} and {c['asked'][1]:.0f} ml. On average a sample is "
            f"{c['mae_ml']:.1f} ml off; all together they are {abs(c['bias_ml']):.1f} ml too "
            f"{'large' if c['bias_ml'] > 0 else 'small'}.",
        ]
    for name, s in summary.get("segmenter", {}).items():
        yield [
            f"The ruler: {plain(name)}",
            f"{s['mae_ml']:.1f} ml",
            f"Mean error of the segmenter that measured them, on {s['n']} held-out real scans "
            f"whose volume is known. The errors above include it.",
        ]
    if d := summary.get("diversity"):
        yield [
            "Diversity",
            f"{d['samples']['ms_ssim']:.3f}",
            f"MS-SSIM between two samples on average; between two real scans it is "
            f"{d['real']['ms_ssim']:.3f}. The higher, the more alike.",
        ]


def reconstruction(r: dict[str, Any], evidence: Evidence) -> Section:
    """How well held-out scans survive the autoencoder."""
    f, channels, worst = r["downsample"], r["z_channels"], r.get("worst_scan")
    names = {
        "psnr_brain_db": "PSNR in the brain, dB",
        "psnr_db": "PSNR over all, dB",
        "ssim_brain": "SSIM in the brain",
        "ssim": "SSIM over all",
        "ms_ssim": "MS-SSIM over all",
        "l1_brain": "mean absolute difference in the brain",
        "l1": "the same over all",
        "psnr_brain_block_average_db": f"PSNR in the brain of block averaging by {f} per axis, dB",
        "psnr_brain_block_average_equal_values_db": "the same, storing as many numbers, dB",
    }
    rows = [[words, f"{r[key]:.4g}", f"{r[f'{key}_sd']:.2g}"] for key, words in names.items()]
    header = ["measure", "mean", "sd"]
    section = Section(
        "Reconstruction of held-out scans",
        [
            f"The autoencoder shrinks a scan {f} times along each axis and keeps {channels} "
            f"numbers for each voxel that is left. Samples cannot be sharper than what it brings "
            f"back.",
            f"The worst of {r['n']} scans{f', {worst},' if worst else ''} has "
            f"{r['worst_psnr_brain_db']:.1f} dB.",
        ],
        tables=[Table(f"Intensities in [0, 1]; {r['n']} held-out scans", header, rows)],
    )
    if evidence.reconstructed:
        at = middle([e.x for e in evidence.reconstructed])
        panels = [
            [
                Panel(e.name, e.x),
                Panel(f"reconstruction, {e.psnr_brain_db:.1f} dB", e.y),
                Panel("reconstruction - scan", e.y - e.x, is_difference=True),
            ]
            for e in evidence.reconstructed
        ]
        words = (
            f"Held-out scan, reconstruction, and difference (blue: too dark, red: too bright; "
            f"the scale ends at {DIFFERENCE_LIMIT:g} of the intensity range). {PLANES}"
        )
        section.pictures.append(Picture(panels_in_rows(panels, evidence.spacing, at), words))
    return section


def conditioning(summary: dict[str, Any], evidence: Evidence) -> Section:
    """The closed loop: whether volumes come out as asked."""
    measured = summary.get("conditioning", {})
    ranges = " and between ".join(
        f"{c['asked'][0]:.0f} and {c['asked'][1]:.0f} ml ({plain(n)})" for n, c in measured.items()
    )
    evenly = (
        " The values lie evenly over the 5 - 95 % range of the training scans, in an order that "
        "has nothing to do with the other covariates. Outside that range nothing is known."
    ) * summary.get("spread_evenly", False)
    section = Section("What was asked for, and what came out")
    if measured:
        section.sentences = [
            f"Volumes were asked for between {ranges}, and were measured in the samples by a "
            f"segmenter.{evenly}",
        ]
        section.tables.append(agreement_table("Measured against asked for", measured))
    if evidence.conditioning:
        figure = clouds(evidence.conditioning, reference="asked for", measured="measured")
        section.pictures.append(Picture(figure, "Each point is a sample."))
    if evidence.compared:
        section.pictures.append(compared(evidence))
    return section


def compared(evidence: Evidence) -> Picture:
    """Samples, beside real scans if people are pictured."""
    panels, reals = [], [c.real for c in evidence.compared if c.real is not None]
    for c in evidence.compared:
        panels.append(Panel(c.sample_title, c.sample))
        panels += [Panel(c.real_title, c.real)] if reals else []
    at = middle(reals or [c.sample for c in evidence.compared])
    by = evidence.compared_by
    words = [
        "Samples",
        " (left)" * bool(reals),
        f", sorted by the {plain(by)} volume asked for" if by else "",
        ", beside real scans (right). They are not the same people: age, sex and head size differ"
        * bool(reals),
    ]
    figure = panels_in_rows(in_rows(panels), evidence.spacing, at)
    return Picture(figure, f"{''.join(words)}. {PLANES}")


def segmenter(measured: dict[str, Any], evidence: Evidence) -> Section:
    """The error of the ruler itself."""
    section = Section(
        "How well the segmenter measures real scans",
        [
            "Here it measures real people who are held out from training, whose volumes are known "
            "from their label maps or tables.",
        ],
        tables=[agreement_table("Measured against known", measured)],
    )
    if evidence.segmenter:
        figure = clouds(evidence.segmenter, reference="known", measured="measured")
        section.pictures.append(Picture(figure, "Each point is a held-out scan."))
    return section


def diversity(d: dict[str, Any], spread_evenly: bool) -> Section:
    """Whether the samples differ as much as people do."""
    evenly = (
        " The volumes of the samples are spread evenly, those of people are not: compare the two "
        "figures with that in mind."
    ) * spread_evenly
    rows = [
        [
            words,
            f"{s['ms_ssim']:.3f}",
            f"{s['ms_ssim_sd']:.3f}",
            f"{s['n_pairs']}",
            f"{s['n_volumes']}",
        ]
        for s, words in ((d["samples"], "between samples"), (d["real"], "between real scans"))
    ]
    return Section(
        "Diversity",
        [
            f"MS-SSIM of pairs over the whole volume, {d['samples']['ms_ssim_levels']} scales with "
            f"a window of {d['samples']['ms_ssim_window']} voxels.{evenly}",
        ],
        tables=[Table("Similarity of pairs", ["", "MS-SSIM", "sd", "pairs", "volumes"], rows)],
    )


def agreement_table(caption: str, structures: dict[str, Any]) -> Table:
    """The agreement of each structure, a row each, with 95 % intervals."""
    names = {
        "pearson_r": "Pearson r",
        "spearman_r": "Spearman r",
        "slope": "slope",
        "bias_ml": "bias, ml",
        "mae_ml": "mean absolute error, ml",
    }
    rows = [
        [plain(name), str(s["n"]), *[f"{s[k]:.3g}{interval(s, k)}" for k in names]]
        for name, s in structures.items()
    ]
    header = ["structure", "n", *names.values()]
    return Table(f"{caption}; in brackets 95 % bootstrap intervals", header, rows)
