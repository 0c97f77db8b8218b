"""The headline figures of an evaluation on the terminal: a short table, and what it means."""

import logging
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vol3d.io.text import visible
from vol3d.metrics.verdict import findings, overall, plain

log = logging.getLogger(__name__)


def tell(summary: dict[str, Any]) -> None:
    """The headline figures as a table on stderr; then what they mean, and what is out of line."""
    table = Table("what", "figure", "n", title="evaluation")
    if r := summary.get("reconstruction"):
        table.add_row(
            "in-brain PSNR of held-out scans", f"{r['psnr_brain_db']:.2f} dB", str(r["n"])
        )
        table.add_row(
            "  block averaging", f"{r['psnr_brain_block_average_db']:.2f} dB", str(r["n"])
        )
        table.add_row("PSNR over all", f"{r['psnr_db']:.2f} dB", str(r["n"]))
    for title, key in (("asked and got", "conditioning"), ("segmenter", "segmenter")):
        for name, s in summary.get(key, {}).items():
            figure = (
                f"Spearman r {s['spearman_r']:.3f}, slope {s['slope']:.2f}, "
                f"MAE {s['mae_ml']:.1f} ml"
            )
            table.add_row(Text(visible(f"{plain(name)}: {title}")), figure, str(s["n"]))
    for key, d in summary.get("diversity", {}).items():
        table.add_row(f"MS-SSIM between {key}", f"{d['ms_ssim']:.3f}", f"{d['n_pairs']} pairs")
    Console(stderr=True).print(table)
    found = findings(summary)
    log.info("%s", overall(found))
    for finding in found:
        if finding.is_amiss:
            log.warning("warning: %s", finding.words)
