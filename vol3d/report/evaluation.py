"""The report of `vol3d evaluate`: how good a generator is, in pictures and plain sentences."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vol3d.report.page import Picture, Section, Table, page
from vol3d.report.pictures import DIFFERENCE_LIMIT, Panel, Spacing, middle, panels_in_rows
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
    """A sample [X, Y, Z] beside a real scan of about the volume that was asked for."""

    sample_title: str
    sample: np.ndarray
    real_title: str
    real: np.ndarray


@dataclass
class Evidence:
    """What the report shows besides the figures of the summary.

    Attributes:
        spacing: mm per voxel along X, Y, Z.
        reconstructed: a few held-out people.
        compared: samples from the smallest to the largest structure.
        compared_by: the structure that they are sorted by.
        conditioning: asked against measured, per structure.
        segmenter: true against measured on held-out scans, per structure.
        made: how it was made: a name and a value per line.
    """

    spacing: Spacing
    reconstructed: list[Reconstructed] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)
    compared_by: str = ""
    conditioning: list[Cloud] = field(default_factory=list)
    segmenter: list[Cloud] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=dict)


def evaluation_page(summary: dict[str, Any], evidence: Evidence) -> str:
    """The HTML of the report.

    Args:
        summary: the content of summary.json; parts that were not measured are absent.
        evidence: pictures and points.
    """
    sections = [headline(summary)]
    if summary.get("reconstruction"):
        sections.append(reconstruction(summary["reconstruction"], evidence))
    if summary.get("conditioning") or evidence.compared:
        sections.append(conditioning(summary, evidence))
    if summary.get("segmenter"):
        sections.append(segmenter(summary["segmenter"], evidence))
    if summary.get("diversity"):
        sections.append(diversity(summary["diversity"], summary.get("spread_evenly", False)))
    return page("How good is this generator?", [*sections, how_made(evidence.made)])


def headline(summary: dict[str, Any]) -> Section:
    """The findings as a table, a sentence each."""
    rows = []
    if r := summary.get("reconstruction"):
        gain = r["psnr_brain_db"] - r["psnr_brain_block_average_db"]
        rows.append(
            [
                "Reconstruction",
                f"{r['psnr_brain_db']:.1f} dB",
                f"In-brain PSNR of {r['n']} held-out scans after the autoencoder, {gain:+.1f} dB "
                f"against averaging blocks of {r['downsample']} voxels per axis. Over the whole "
                f"volume {r['psnr_db']:.1f} dB.",
            ]
        )
    for name, c in summary.get("conditioning", {}).items():
        rows.append(
            [
                f"Asked for: {plain(name)}",
                f"r = {c['spearman_r']:.2f}",
                f"What comes out follows what is asked for with a Spearman correlation of "
                f"{c['spearman_r']:.2f}{interval(c, 'spearman_r')} and a slope of {c['slope']:.2f}"
                f"{interval(c, 'slope')}, over {c['n']} samples asked for between "
                f"{c['asked'][0]:.0f} and {c['asked'][1]:.0f} ml. On average a sample is "
                f"{c['mae_ml']:.1f} ml off; all together they are {abs(c['bias_ml']):.1f} ml too "
                f"{'large' if c['bias_ml'] > 0 else 'small'}.",
            ]
        )
    for name, s in summary.get("segmenter", {}).items():
        rows.append(
            [
                f"The ruler: {plain(name)}",
                f"{s['mae_ml']:.1f} ml",
                f"Mean error of the segmenter that measured them, on {s['n']} held-out real scans "
                f"whose volume is known. The errors above include it.",
            ]
        )
    if d := summary.get("diversity"):
        rows.append(
            [
                "Diversity",
                f"{d['samples']['ms_ssim']:.3f}",
                f"MS-SSIM between two samples on average; between two real scans it is "
                f"{d['real']['ms_ssim']:.3f}. Much higher than that would mean samples all alike.",
            ]
        )
    table = Table("Headline figures", ["what", "figure", "in words"], rows)
    return Section("In short", notes=summary.get("notes", []), tables=[table])


def reconstruction(r: dict[str, Any], evidence: Evidence) -> Section:
    """How well held-out scans survive the autoencoder."""
    f, channels = r["downsample"], r["z_channels"]
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
    section = Section(
        "Reconstruction of held-out scans",
        [
            f"The autoencoder shrinks a scan {f} times along each axis and keeps {channels} "
            f"numbers for each voxel that is left. Samples cannot be sharper than what it brings "
            f"back.",
            f"The worst of {r['n']} scans is {r['worst_scan']}, {r['worst_psnr_brain_db']:.1f} dB.",
        ],
        tables=[
            Table(
                f"Intensities in [0, 1]; {r['n']} held-out scans", ["measure", "mean", "sd"], rows
            )
        ],
    )
    if evidence.reconstructed:
        at = middle([e.x for e in evidence.reconstructed])
        figure = panels_in_rows(
            [
                [
                    Panel(e.name, e.x),
                    Panel(f"reconstruction, {e.psnr_brain_db:.1f} dB", e.y),
                    Panel("reconstruction - scan", e.y - e.x, is_difference=True),
                ]
                for e in evidence.reconstructed
            ],
            evidence.spacing,
            at,
        )
        section.pictures.append(
            Picture(
                figure,
                f"Held-out scan, reconstruction, and difference (blue: too dark, red: too bright; "
                f"the scale ends at {DIFFERENCE_LIMIT:g} of the intensity range). {PLANES}",
            )
        )
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
        at = middle([c.real for c in evidence.compared])
        rows = [
            [Panel(c.sample_title, c.sample), Panel(c.real_title, c.real)]
            for c in evidence.compared
        ]
        by = f", sorted by the {plain(evidence.compared_by)} volume asked for" * bool(
            evidence.compared_by
        )
        section.pictures.append(
            Picture(
                panels_in_rows(rows, evidence.spacing, at),
                f"Samples (left){by}, beside real scans (right). They are not the same people: "
                f"age, sex and head size differ. {PLANES}",
            )
        )
    return section


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
            f"{d[key]['ms_ssim']:.3f}",
            f"{d[key]['ms_ssim_sd']:.3f}",
            str(d[key]["n_pairs"]),
            str(d[key]["n_volumes"]),
        ]
        for key, words in (("samples", "between samples"), ("real", "between real scans"))
    ]
    return Section(
        "Diversity",
        [
            f"MS-SSIM of pairs over the whole volume, {d['samples']['ms_ssim_levels']} scales with "
            f"a window of {d['samples']['ms_ssim_window']} voxels.{evenly}",
        ],
        tables=[Table("Similarity of pairs", ["", "MS-SSIM", "sd", "pairs", "volumes"], rows)],
    )


def how_made(made: dict[str, str]) -> Section:
    """Command, checksums and versions."""
    return Section(
        "How this was made",
        tables=[Table("For the record", ["", ""], [[k, v] for k, v in made.items()])],
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
    return Table(
        f"{caption}; in brackets 95 % bootstrap intervals",
        ["structure", "n", *names.values()],
        rows,
    )


def interval(stats: dict[str, Any], name: str) -> str:
    """A 95 % interval in brackets."""
    low, high = stats[f"{name}_ci"]
    return f" [{low:.3g}, {high:.3g}]"


def plain(name: str) -> str:
    """A structure's name in words: ventricles for ventricles_ml."""
    return name.removesuffix("_ml").replace("_", " ")
