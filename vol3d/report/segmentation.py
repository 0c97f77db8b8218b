"""The report of `vol3d score`: what a segmenter finds, and how far its doubts can be trusted."""

from dataclasses import dataclass, field
from typing import Any

from vol3d.metrics.segmentation_scores import Scores
from vol3d.metrics.segmentation_verdict import findings, told
from vol3d.metrics.verdict import plain, untold
from vol3d.report.page import Picture, Section, Table, page
from vol3d.report.segmentation_pictures import Shown, people_in_rows
from vol3d.report.segmentation_plots import VolumeCloud, reliability, risk_coverage, volumes

FITTED = (
    "People are dealt into folds; each is judged by what was fitted on the people of the other folds, "
    "so nobody is judged by a fit on themselves."
)
RATERS = {
    "ged_squared": ("energy distance squared", "0 where members are to raters as raters are to each "
                    "other; lower is better"),
    "matched_iou": ("matched IoU", "overlap when each member is paired with a rater; 1 is best"),
    "collective_insight": ("collective insight", "the three below together; 1 is best"),
    "combined_sensitivity": ("combined sensitivity", "share of what any rater drew that some member "
                             "has"),
    "maximum_dice": ("maximum Dice", "of each rater with the closest member"),
    "diversity_agreement": ("diversity agreement", "whether the extremes of disagreement are alike"),
    "volume_spread": ("spread of volumes", "of members over raters; 1 is as raters differ"),
}  # fmt: skip


@dataclass
class Evidence:
    """What the report shows besides the figures of scores.json.

    Attributes:
        scores: the visits behind them.
        shown: people, if they may be shown.
        made: how it was made: a name and a value per line.
    """

    scores: Scores
    shown: list[Shown] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=dict)


def segmentation_page(summary: dict[str, Any], evidence: Evidence) -> str:
    """The HTML of the report.

    Args:
        summary: the content of scores.json.
        evidence: visits, pictures.
    """
    sections = [verdict(summary, evidence), headline(summary)]
    if evidence.shown:
        sections.append(people(evidence, len(summary["structures"]) + 1))
    sections += [of_volumes(summary, evidence), of_calibration(summary)]
    sections.append(of_uncertainty(summary["uncertainty"]))
    if any("raters" in s for s in summary["structures"].values()):
        sections.append(of_raters(summary))
    rows = [[k, v] for k, v in evidence.made.items()]
    sections.append(Section("How this was made", tables=[Table("For the record", ["", ""], rows)]))
    return page("How good is this segmenter?", sections)


def verdict(summary: dict[str, Any], evidence: Evidence) -> Section:
    """What the figures mean; what is not good enough stands out."""
    found = findings(summary)
    amiss = [f.words for f in found if f.is_amiss]
    begin = (
        f"{len(amiss)} of {len(found)} findings are not good enough; they come first."
        if amiss
        else f"All that was measured is good enough ({len(found)} findings{untold(found)})."
    )
    private = (
        "This report names real people and shows slices of their brains: pass it on only to whom you may "
        "pass on the scans. pictures_of_people=false leaves both out."
    )
    return Section(
        "In short",
        [
            f"{summary['n_visits']} visits of {summary['n_people']} people were scored against "
            f"{against(summary['raters'])}.",
            begin,
        ],
        [*amiss, *summary["notes"], *([private] if evidence.shown else [])],
        rest=[f.words for f in found if not f.is_amiss],
    )


def against(raters: list[str]) -> str:
    """Whose label maps are true, in words."""
    if len(raters) == 1:
        return "a label map each"
    return f"the label maps of {len(raters)} raters, each of whom counts alike"


def headline(summary: dict[str, Any]) -> Section:
    """A table of the figures of each structure, and what they mean."""
    rows = []
    for name, s in summary["structures"].items():
        v = s["volume"]
        rows.append(
            [
                plain(name),
                told(s["dice"]),
                f"{s['dice']['worst']:.2f}",
                told(s["hd95_mm"], ".1f", of=summary["n_visits"]),
                told(v["mae_ml"], ".2f"),
                told(v["bias_ml"], "+.2f"),
                told(s["calibration"]["before"]["ece"], ".3f"),
                told(s["calibration"]["after"]["ece"], ".3f")
                if "after" in s["calibration"]
                else "n/a",
            ]
        )
    header = ["structure", "Dice", "worst Dice", "HD95, mm", "volume error, ml", "bias, ml"]
    sentences = [
        "Dice: overlap of the consensus with the truth, 1 is the same. HD95: 95 of 100 points of either "
        "surface are closer than this to the other one; n says of how many visits, where not all have "
        "both surfaces. Volume error and bias: mean size, and mean, of predicted less true volume.",
        "Calibration error: how far probabilities are from the share that is so, on average over voxels "
        "within 3 mm of any structure; as they are, and with a temperature fitted on other people.",
    ]
    tables = [
        Table(
            f"{summary['n_visits']} visits; in brackets 95 % bootstrap intervals over people",
            [*header, "calibration error", "fitted"],
            rows,
        )
    ]
    lesions = {n: s["lesions"] for n, s in summary["structures"].items() if "lesions" in s}
    if lesions:
        tables.append(
            Table(
                "Pieces: connected by a face, an edge or a corner; found where one voxel is shared",
                ["structure", "found of those there are", "there, of those found"],
                [
                    [
                        plain(n),
                        *[told(x[k], ".0%", with_n=True) for k in ("sensitivity", "precision")],
                    ]
                    for n, x in lesions.items()
                ],
            )
        )
    members = [
        [plain(n), told(s["dice"]), told(s["member_dice"]), told(s.get("raters_dice"))]
        for n, s in summary["structures"].items()
        if "member_dice" in s
    ]
    if members:
        header = ["structure", "consensus", "one member", "two raters"]
        tables.append(Table("Dice of the consensus, and of each member by itself", header, members))
    return Section("Figures", sentences, tables=tables)


def people(evidence: Evidence, num_labels: int) -> Section:
    """The best, a middling and the worst."""
    figure = people_in_rows(evidence.shown, num_labels)
    caption = (
        "Left: truth in green, consensus in red. Right: entropy of the mean probability, black 0, bright "
        "ln K; outlined in blue where the consensus is wrong. Slices go through the structure with the "
        "lowest Dice of that person, where there is most of it. L and R are the person's left and right."
    )
    words = "People by mean Dice. Where a model is honest, blue outlines lie on bright ground."
    return Section("People", [words], pictures=[Picture(figure, caption)])


def of_volumes(summary: dict[str, Any], evidence: Evidence) -> Section:
    """Volumes and their intervals."""
    rows, clouds = [], []
    for s, (name, found) in enumerate(summary["structures"].items()):
        v, scores = found["volume"], evidence.scores
        for kind, words in (("credible", "members' own"), ("conformal", "fitted on other people")):
            if kind in v:
                coverage, width = v[kind]["coverage"], v[kind]["width_ml"]
                rows.append([plain(name), words, told(coverage, ".0%"), told(width, ".3g")])
        both = scores.intervals[name]
        clouds.append(
            VolumeCloud(
                plain(name),
                scores.truth_ml(s),
                scores.predicted_ml(s),
                both["credible"],
                both.get("conformal"),
            )
        )
    level = f"{summary['level']:.0%}"
    table = Table(
        f"Intervals that are to hold the true volume of {level} of people",
        ["structure", "interval", "hold it", "mean width, ml"],
        rows,
    )
    section = Section(
        "Volumes",
        [
            f"The members' own interval holds the middle {level} of their volumes; nothing ties it to "
            f"the truth. The other is widened by what it took to hold the volumes of other people "
            f"(conformal prediction). {FITTED}"
        ],
        tables=[table],
    )
    section.pictures.append(Picture(volumes(clouds), "Each point is a visit."))
    return section


def of_calibration(summary: dict[str, Any]) -> Section:
    """Reliability curves."""
    curves = {"the likeliest label": summary["calibration"]}
    curves |= {plain(n): s["calibration"] for n, s in summary["structures"].items()}
    temperatures = summary["calibration"]["temperatures"]
    among = f"{temperatures[0]:.2f}" + (
        f" to {temperatures[-1]:.2f}" if len(temperatures) > 1 else ""
    )
    caption = (
        "Voxels within 3 mm of any structure, at most 20 000 of each visit. Grey: how many have that "
        "probability. A curve below the diagonal is too sure."
    )
    return Section(
        "Calibration",
        [
            f"Of voxels that are called 80 % likely, 80 of 100 should be so. A temperature ({among}) is "
            f"one number that makes all probabilities more or less sure. {FITTED}"
        ],
        pictures=[Picture(reliability(curves), caption)],
    )


def of_uncertainty(measures: dict[str, Any]) -> Section:
    """Doubts against errors."""
    rows = [
        [
            name.replace("_", " "),
            told(m["auroc"]),
            "n/a" if m["excess_aurc"] is None else f"{m['excess_aurc']:.4f}",
            f"{m['error_rate']:.3f}",
        ]
        for name, m in measures.items()
    ]
    header = ["measure", "AUROC, mean over visits", "area above the ideal", "share of errors"]
    return Section(
        "Doubts and errors",
        [
            "AUROC: how often a wrong voxel is less sure than a right one; 0.5 is chance, and n/a where "
            "nothing is wrong. If the least sure voxels are left out one after the other, errors among "
            "the rest should go down to nothing."
        ],
        tables=[Table("Voxels within 3 mm of any structure", header, rows)],
        pictures=[Picture(risk_coverage(measures), "Risk against coverage, all visits together.")],
    )


def of_raters(summary: dict[str, Any]) -> Section:
    """Members against several raters."""
    told_of = {n: s["raters"] for n, s in summary["structures"].items() if "raters" in s}
    rows = [
        [words, *[told(r[key]) for r in told_of.values()], meaning]
        for key, (words, meaning) in RATERS.items()
    ]
    return Section(
        "Members and raters",
        ["Whether members differ from raters as raters do from each other."],
        tables=[
            Table(
                f"{len(summary['raters'])} raters; in brackets 95 % intervals over people",
                ["measure", *map(plain, told_of), "in words"],
                rows,
            )
        ],
    )
