"""The model card of a bundle, made from the run (Mitchell et al. 2019, arXiv:1810.03993)."""

from typing import Any

from vol3d.data.covariates import Covariates, Number
from vol3d.io.text import as_markdown
from vol3d.metrics.verdict import of_reconstruction


def model_card(
    what: str,
    does: str,
    fingerprint: dict[str, Any],
    quality: dict[str, Any],
    schema: Covariates | None = None,
) -> str:
    """Markdown: what it is, what it was trained on, how good it is, what it is not for."""
    intensity, sha256 = (as_markdown(fingerprint[k]) for k in ("intensity", "sha256"))
    kind = as_markdown(fingerprint.get("kind", "T1w"))
    scans, people = (
        {split: int(fingerprint[k][split]) for split in ("train", "val")}
        for k in ("scans", "people")
    )
    spacing = " x ".join(f"{s:g}" for s in fingerprint["spacing_mm"])
    shape = " x ".join(map(str, fingerprint["shape"]))
    lines = [
        f"# A vol3d {what}",
        "",
        f"It {does}.",
        "",
        "## Training data",
        "",
        f"- {scans['train']} scans of {people['train']} people; {scans['val']} scans of "
        f"{people['val']} other people were held out",
        f"- {kind} of {shape} voxels of {spacing} mm, RAS+; intensities {intensity}",
        f"- fingerprint (SHA-256 over the files): `{sha256}`",
        "",
    ]
    if schema is not None and schema.columns:
        lines += [
            "## Covariates",
            "",
            "| name | unit | seen in training | missing | not asked for |",
            "|---|---|---|---|---|",
            *[covariate_row(c) for c in schema.columns],
            "",
        ]
    lines += [
        *quality_lines(quality),
        "",
        "## Use",
        "",
        "For research: method development, power analyses, teaching, augmentation. It knows only the "
        "population it was trained on; outside the ranges above its output means nothing. Check how "
        "well requested volumes come out (`vol3d evaluate`) before you rely on them.",
        "",
        "Not a medical device; not for diagnosis. Whether samples repeat training scans was not "
        "checked: do not share it more freely than the data it was trained on. The licence of the "
        "weights is for whoever trained them to choose, within that of the data.",
        "",
    ]
    return "\n".join(lines)


def imported_card(
    what: str,
    fingerprint: dict[str, Any],
    quality: dict[str, Any],
    schema: Covariates | None = None,
) -> str:
    """The card of a model that somebody else trained: of its data no more is known than its files say."""
    shape = " x ".join(map(str, fingerprint["shape"]))
    spacing = " x ".join(f"{s:g}" for s in fingerprint["spacing_mm"])
    lines = [
        f"# A vol3d {what}",
        "",
        "Imported with `vol3d import`; it was trained elsewhere. Names and shapes of all weights are "
        "those of our network, so it computes the same. What it was trained on, how well it does and "
        "under which licence it may be used, its authors say.",
        "",
        *[
            f"- {as_markdown(name)}: SHA-256 `{sha}`"
            for name, sha in fingerprint["imported"]["files"].items()
        ],
        f"- images of {shape} voxels of {spacing} mm, as the import was told",
        "",
    ]
    if schema is not None and schema.columns:
        lines += ["## Covariates", "", "| name | unit | range |", "|---|---|---|"]
        for c in schema.columns:
            is_number = isinstance(c, Number)
            seen = f"{c.low:g} to {c.high:g}" if is_number else ", ".join(c.levels)
            lines.append(cells(c.name, c.unit if is_number else "", seen))
        lines += ["", "What is not asked for is drawn evenly from these, each by itself.", ""]
    return "\n".join([*lines, *quality_lines(quality), "", "Not a medical device.", ""])


def quality_lines(quality: dict[str, Any]) -> list[str]:
    """The section on quality."""
    known = {k: v for k, v in quality.items() if isinstance(v, float | int | str)}
    told = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in known.items()}
    measures = [f"- {as_markdown(k)}: {as_markdown(v)}" for k, v in told.items()]
    words = [of_reconstruction(quality).words, ""] if "psnr_brain_db" in quality else []
    return ["## Quality on held-out people", "", *words, *(measures or ["Never measured."])]


def covariate_row(c) -> str:
    """One covariate as a row of the card's table."""
    seen = (
        f"{c.low:g} to {c.high:g}, mean {c.mean:.4g}, sd {c.std:.3g}"
        if isinstance(c, Number)
        else ", ".join(f"{level} ({n})" for level, n in c.levels.items())
    )
    unit = c.unit if isinstance(c, Number) else ""
    return cells(c.name, unit, seen, c.missing, c.absent)


def cells(*values: object) -> str:
    """A row of a table; what is in it is shown as text."""
    return f"| {' | '.join(map(as_markdown, values))} |"
