"""Time and memory of an ensemble: `vol3d segment` of one volume of 80x112x80 voxels with 1 to 64 members.

python -m benchmarks.members [CONFIG]

CONFIG is that of a segmenter (configs/patchddm/labels.yaml), which sees four images only: neither figure
depends on what it learnt. A command also starts Python and reads the model: that is in every row.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEMBERS = (1, 4, 16, 64)
CONFIG = "configs/patchddm/labels.yaml"


def vol3d(*words: str) -> tuple[float, float]:
    """Run a command; seconds, and GiB of memory at most.

    Raises:
        SystemExit: it failed; what it said.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "vol3d", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(said)
    return time.monotonic() - began, usage.ru_maxrss / 2**20


def main(config: str) -> None:
    """A line for each number of members."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        vol3d("sample-cohort", f"{at}/cohort", "n=8", "spacing=2")
        vol3d("train", config, f"run={at}/run", f"data.path={at}/cohort", "total_nimg=4")
        image = next(at.glob("cohort/sub-*/anat/*desc-brain_T1w.nii.gz"))
        print("| members | seconds | GiB |\n|---|---|---|")
        for n in MEMBERS:
            words = [f"members={n}", "pictures=false"]
            seconds, gib = vol3d("segment", f"{at}/run", str(image), f"{at}/{n}", *words)
            print(f"| {n} | {seconds:.1f} | {gib:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else CONFIG)
