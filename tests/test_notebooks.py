"""Every notebook runs, from its first cell to its last, and shows pictures; git keeps none of them."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = {
    "1_look_at_data": 6,
    "2_train_tiny": 4,
    "3_generate_and_condition": 7,
    "4_segment_with_an_ensemble": 4,
    "5_read_a_report": 3,
    "6_register": 6,
}
"""How many each shows."""
LONGER = ("2_train_tiny", "4_segment_with_an_ensemble")
"""Those that train."""


def test_git_keeps_no_output_of_a_notebook():
    assert [path.stem for path in NOTEBOOKS] == list(PICTURES)
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text())
        for cell in notebook["cells"]:
            assert not cell.get("outputs"), f"{path.name}: outputs are stripped"
            assert cell.get("execution_count") is None
            assert cell["metadata"] == {}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONGER else []) for n in PICTURES]
)
def test_a_notebook_runs_from_top_to_bottom(name: str, cohort: Path, tmp_path: Path):
    """The cohort of twelve that it begins with is there already."""
    shutil.copytree(cohort, tmp_path / "cohort")
    (tmp_path / "out").mkdir()
    code = [sys.executable, str(ROOT / "tests" / "run_notebook.py")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*code, ROOT / "notebooks" / f"{name}.ipynb", "out"],
        **{"cwd": tmp_path, "capture_output": True, "text": True, "check": False},
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == PICTURES[name]
    assert all(p.stat().st_size > 5e3 for p in pictures)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = sum(getattr(after, k) - getattr(before, k) for k in ("ru_utime", "ru_stime"))
    assert seconds < 120  # of one core, whatever else it does
