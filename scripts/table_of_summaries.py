"""The closed loops of several evaluations side by side, as a Markdown table.

python scripts/table_of_summaries.py EVALUATION...
"""

import json
import sys
from pathlib import Path


def row(folder: Path) -> str:
    """One evaluation."""
    summary = json.loads((folder / "summary.json").read_text())
    cells = [folder.name.removesuffix("-evaluation")]
    for name in ("ventricles_ml", "brain_ml"):
        s = summary["conditioning"][name]
        low, high = s["spearman_r_ci"]
        cells += [
            f"{s['spearman_r']:.3f} [{low:.3f}, {high:.3f}]",
            f"{s['slope']:.2f}",
            f"{s['mae_ml']:.1f}",
        ]
    cells.append(f"{summary['diversity']['samples']['ms_ssim']:.3f}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(
        "| | ventricles: Spearman r | slope | MAE, ml | brain: Spearman r | slope | MAE, ml | MS-SSIM |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for folder in sys.argv[1:]:
        print(row(Path(folder)))
